import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { monitorStageSuite } from './stage.suite.ts';

describe('wasm', { timeout: 30_000 }, () => monitorStageSuite(userspace({ compile: 'quickly' })));
