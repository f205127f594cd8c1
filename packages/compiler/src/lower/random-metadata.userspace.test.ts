import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { randomMetadataSuite } from './random-metadata.suite.ts';

describe('wasm', { timeout: 30_000 }, () => randomMetadataSuite(userspace({ compile: 'quickly' }), Number(process.env.TAILRACE_RUNS ?? 8)));
describe('interpreter', { timeout: 30_000 }, () =>
  randomMetadataSuite(userspace({ mode: 'interpreter' }), Number(process.env.TAILRACE_RUNS ?? 4)),
);
