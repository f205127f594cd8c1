import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { rootSuite } from './root.suite.ts';

describe('wasm', () => rootSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => rootSuite(userspace({ mode: 'interpreter' })));
