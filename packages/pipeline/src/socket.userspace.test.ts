import { socketNumber, userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { socketSuite } from './socket.suite.ts';

describe('wasm', { timeout: 30_000 }, () => socketSuite(userspace({ compile: 'quickly' }), socketNumber));
describe('the interpreter', () => socketSuite(userspace({ mode: 'interpreter' }), socketNumber));
