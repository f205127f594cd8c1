import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { memorySuite } from './memory.suite.ts';

describe('wasm', () => memorySuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => memorySuite(userspace({ mode: 'interpreter' })));
