import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { randomMemorySuite } from './random-memory.suite.ts';

describe('wasm', () => randomMemorySuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => randomMemorySuite(userspace({ mode: 'interpreter' })));
