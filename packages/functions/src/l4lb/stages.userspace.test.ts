import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { balancerStagesSuite } from './stages.suite.ts';

describe('wasm', { timeout: 30_000 }, () => balancerStagesSuite(userspace({ compile: 'quickly' })));
