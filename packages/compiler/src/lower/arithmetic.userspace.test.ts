import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { arithmeticSuite } from './arithmetic.suite.ts';

describe('wasm', { timeout: 30_000 }, () => arithmeticSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => arithmeticSuite(userspace({ mode: 'interpreter' })));
