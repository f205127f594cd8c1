import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { pathSuite } from './path.suite.ts';

describe('wasm', { timeout: 30_000 }, () => pathSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => pathSuite(userspace({ mode: 'interpreter' })));
