import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { randomMemorySuite } from './random-memory.suite.ts';

describe('wasm', { timeout: 30_000 }, () => randomMemorySuite(userspace({ compile: 'quickly' }), Number(process.env.TAILRACE_RUNS ?? 8)));
describe('interpreter', { timeout: 30_000 }, () =>
  randomMemorySuite(userspace({ mode: 'interpreter' }), Number(process.env.TAILRACE_RUNS ?? 3)),
);
