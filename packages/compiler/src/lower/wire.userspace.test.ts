import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { wireSuite } from './wire.suite.ts';

describe('wasm', () => wireSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => wireSuite(userspace({ mode: 'interpreter' })));
