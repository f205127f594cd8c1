import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { perfEventsSuite } from './perf-events.suite.ts';

describe('wasm', { timeout: 30_000 }, () => perfEventsSuite(userspace({ compile: 'quickly', cpus: 3 })));
describe('interpreter', { timeout: 30_000 }, () => perfEventsSuite(userspace({ mode: 'interpreter', cpus: 3 })));
