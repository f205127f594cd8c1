import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { exactTableSuite } from './exact-table.suite.ts';

describe('wasm', { timeout: 30_000 }, () => exactTableSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => exactTableSuite(userspace({ mode: 'interpreter' })));
