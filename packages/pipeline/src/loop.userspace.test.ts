import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { loopSuite } from './loop.suite.ts';

describe('wasm', { timeout: 30_000 }, () => loopSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => loopSuite(userspace({ mode: 'interpreter' })));
