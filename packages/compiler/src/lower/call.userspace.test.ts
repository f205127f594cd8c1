import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { callSuite } from './call.suite.ts';

describe('wasm', { timeout: 30_000 }, () => callSuite(userspace({ compile: 'quickly' })));
