import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { pipelineEventsSuite } from './pipeline-events.suite.ts';

describe('wasm', { timeout: 30_000 }, () => pipelineEventsSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => pipelineEventsSuite(userspace({ mode: 'interpreter' })));
