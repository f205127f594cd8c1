import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { exactTableSuite } from './exact-table.suite.ts';

describe('wasm', () => exactTableSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => exactTableSuite(userspace({ mode: 'interpreter' })));
