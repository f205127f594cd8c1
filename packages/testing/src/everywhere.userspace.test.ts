import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { everywhereSuite } from './everywhere.suite.ts';

describe('wasm', { timeout: 30_000 }, () => everywhereSuite(userspace({ compile: 'quickly' })));
