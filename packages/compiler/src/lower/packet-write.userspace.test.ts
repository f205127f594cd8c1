import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { packetWriteSuite } from './packet-write.suite.ts';

describe('wasm', { timeout: 30_000 }, () => packetWriteSuite(userspace({ compile: 'quickly' })));
