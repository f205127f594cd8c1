import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { statementSuite } from './statement.suite.ts';

describe('wasm', () => statementSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => statementSuite(userspace({ mode: 'interpreter' })));
