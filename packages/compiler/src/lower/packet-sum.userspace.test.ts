import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { packetSumSuite } from './packet-sum.suite.ts';

describe('wasm', () => packetSumSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => packetSumSuite(userspace({ mode: 'interpreter' })));
