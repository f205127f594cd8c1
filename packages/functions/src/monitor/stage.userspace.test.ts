import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { monitorStageSuite } from './stage.suite.ts';

describe('wasm', () => monitorStageSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => monitorStageSuite(userspace({ mode: 'interpreter' })));
