import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { functionsSuite } from './functions.suite.ts';

describe('wasm', { timeout: 30_000 }, () => functionsSuite(userspace({ compile: 'quickly' })));
describe('fused', { timeout: 30_000 }, () => functionsSuite(userspace({ compile: 'quickly' }), { fuse: true }));
