import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { randomProgramSuite } from './random-program.suite.ts';

describe('wasm', { timeout: 30_000 }, () => randomProgramSuite(userspace({ compile: 'quickly' }), Number(process.env.TAILRACE_RUNS ?? 8)));
describe('interpreter', { timeout: 30_000 }, () =>
  randomProgramSuite(userspace({ mode: 'interpreter' }), Number(process.env.TAILRACE_RUNS ?? 3)),
);
