import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { arithmeticSuite } from './arithmetic.suite.ts';

describe('wasm', () => arithmeticSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => arithmeticSuite(userspace({ mode: 'interpreter' })));
