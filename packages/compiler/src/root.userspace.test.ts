import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { rootSuite } from './root.suite.ts';

describe('wasm', { timeout: 30_000 }, () => rootSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => rootSuite(userspace({ mode: 'interpreter' })));
