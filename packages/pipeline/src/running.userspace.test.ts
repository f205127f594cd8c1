import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { runningSuite } from './running.suite.ts';

describe('wasm', { timeout: 30_000 }, () => runningSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => runningSuite(userspace({ mode: 'interpreter' })));
