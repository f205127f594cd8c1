import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { lengthSuite } from './length.suite.ts';

describe('wasm', () => lengthSuite(userspace()));
describe('interpreter', () => lengthSuite(userspace({ mode: 'interpreter' })));
