import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { policyStagesSuite } from './stages.suite.ts';

describe('wasm', () => policyStagesSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => policyStagesSuite(userspace({ mode: 'interpreter' })));
