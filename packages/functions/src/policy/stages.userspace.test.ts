import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { policyStagesSuite } from './stages.suite.ts';

describe('wasm', { timeout: 30_000 }, () => policyStagesSuite(userspace({ compile: 'quickly' })));
