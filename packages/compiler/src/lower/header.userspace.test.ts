import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { headerSuite } from './header.suite.ts';

describe('wasm', () => headerSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => headerSuite(userspace({ mode: 'interpreter' })));
