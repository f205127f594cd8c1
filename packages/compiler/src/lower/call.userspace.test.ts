import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { callSuite } from './call.suite.ts';

describe('wasm', () => callSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => callSuite(userspace({ mode: 'interpreter' })));
