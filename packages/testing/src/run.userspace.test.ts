import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { runSuite } from './run.suite.ts';

describe('wasm', () => runSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => runSuite(userspace({ mode: 'interpreter' })));
