import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { liveSuite } from './live.suite.ts';

describe('wasm', { timeout: 30_000 }, () => liveSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => liveSuite(userspace({ mode: 'interpreter' })));
