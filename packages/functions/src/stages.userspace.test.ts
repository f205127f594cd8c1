import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { stagesSuite } from './stages.suite.ts';

describe('wasm', { timeout: 30_000 }, () => stagesSuite(userspace({ compile: 'quickly' })));
