import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { pathSuite } from './path.suite.ts';

describe('wasm', () => pathSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => pathSuite(userspace({ mode: 'interpreter' })));
