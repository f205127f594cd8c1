import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { contextSuite } from './context.suite.ts';

describe('wasm', () => contextSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => contextSuite(userspace({ mode: 'interpreter' })));
