import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { observeSuite } from './observe.suite.ts';

describe('wasm', { timeout: 30_000 }, () => observeSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => observeSuite(userspace({ mode: 'interpreter' })));
