import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { contextSuite } from './context.suite.ts';

describe('wasm', { timeout: 30_000 }, () => contextSuite(userspace({ compile: 'quickly' })));
