import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { memorySuite } from './memory.suite.ts';

describe('wasm', { timeout: 30_000 }, () => memorySuite(userspace({ compile: 'quickly' })));
