import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { wireSuite } from './wire.suite.ts';

describe('wasm', { timeout: 30_000 }, () => wireSuite(userspace({ compile: 'quickly' }), 5));
