import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { liveSuite } from './live.suite.ts';

describe('wasm', () => liveSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => liveSuite(userspace({ mode: 'interpreter' })));
