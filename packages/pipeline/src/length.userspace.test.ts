import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { lengthSuite } from './length.suite.ts';

describe('wasm', { timeout: 30_000 }, () => lengthSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => lengthSuite(userspace({ mode: 'interpreter' })));
