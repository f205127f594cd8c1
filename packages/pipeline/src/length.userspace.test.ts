import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { lengthSuite } from './length.suite.ts';

describe('wasm', () => lengthSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => lengthSuite(userspace({ mode: 'interpreter' })));
