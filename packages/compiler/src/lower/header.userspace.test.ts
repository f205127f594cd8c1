import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { headerSuite } from './header.suite.ts';

describe('wasm', { timeout: 30_000 }, () => headerSuite(userspace({ compile: 'quickly' }), Number(process.env.TAILRACE_RUNS ?? 5)));
