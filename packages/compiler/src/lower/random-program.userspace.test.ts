import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { randomProgramSuite } from './random-program.suite.ts';

describe('wasm', () => randomProgramSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => randomProgramSuite(userspace({ mode: 'interpreter' })));
