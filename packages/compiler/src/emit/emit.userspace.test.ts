import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { emitSuite } from './emit.suite.ts';

describe('wasm', { timeout: 30_000 }, () => emitSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => emitSuite(userspace({ mode: 'interpreter' })));
