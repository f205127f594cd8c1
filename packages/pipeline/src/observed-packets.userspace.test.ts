import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { observedPacketsSuite } from './observed-packets.suite.ts';

describe('wasm', { timeout: 30_000 }, () => observedPacketsSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => observedPacketsSuite(userspace({ mode: 'interpreter' })));
