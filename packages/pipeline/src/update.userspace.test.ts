import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { updateSuite } from './update.suite.ts';

describe('wasm', { timeout: 30_000 }, () => updateSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => updateSuite(userspace({ mode: 'interpreter' })));
