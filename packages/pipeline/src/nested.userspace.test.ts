import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { nestedSuite } from './nested.suite.ts';

describe('wasm', { timeout: 30_000 }, () => nestedSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => nestedSuite(userspace({ mode: 'interpreter' })));
