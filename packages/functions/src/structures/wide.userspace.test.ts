import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { wideSuite } from './wide.suite.ts';

describe('wasm', () => wideSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => wideSuite(userspace({ mode: 'interpreter' })));
