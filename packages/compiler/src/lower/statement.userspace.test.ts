import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { statementSuite } from './statement.suite.ts';

describe('wasm', { timeout: 30_000 }, () => statementSuite(userspace({ compile: 'quickly' })));
