import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { canarySuite } from './canary.suite.ts';

describe('wasm', { timeout: 30_000 }, () => canarySuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => canarySuite(userspace({ mode: 'interpreter' })));
