import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { packetSumSuite } from './packet-sum.suite.ts';

describe('wasm', { timeout: 30_000 }, () =>
  packetSumSuite(userspace({ compile: 'quickly' }), Number(process.env.TAILRACE_RUNS ?? 1), [13, 14, 33]),
);
