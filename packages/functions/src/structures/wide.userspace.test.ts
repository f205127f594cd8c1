import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { wideSuite } from './wide.suite.ts';

describe('wasm', { timeout: 30_000 }, () => wideSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => wideSuite(userspace({ mode: 'interpreter' })));
