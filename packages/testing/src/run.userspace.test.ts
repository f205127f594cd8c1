import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { runSuite } from './run.suite.ts';

describe('wasm', { timeout: 30_000 }, () => runSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => runSuite(userspace({ mode: 'interpreter' })));
