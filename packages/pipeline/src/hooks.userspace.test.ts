import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { hooksSuite } from './hooks.suite.ts';

describe('wasm', { timeout: 30_000 }, () => hooksSuite(userspace({ compile: 'quickly' })));
