import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { runningSuite } from './running.suite.ts';

describe('wasm', () => runningSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => runningSuite(userspace({ mode: 'interpreter' })));
