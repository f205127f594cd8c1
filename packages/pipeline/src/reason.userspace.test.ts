import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { reasonSuite } from './reason.suite.ts';

describe('wasm', { timeout: 30_000 }, () => reasonSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => reasonSuite(userspace({ mode: 'interpreter' })));
