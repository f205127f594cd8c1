import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { crossingSuite } from './crossing.suite.ts';

describe('wasm', { timeout: 30_000 }, () => crossingSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => crossingSuite(userspace({ mode: 'interpreter' })));
