import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { fusedSuite } from './fused.suite.ts';

describe('wasm', () => fusedSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => fusedSuite(userspace({ mode: 'interpreter' })));
