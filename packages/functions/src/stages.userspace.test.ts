import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { stagesSuite } from './stages.suite.ts';

describe('wasm', () => stagesSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => stagesSuite(userspace({ mode: 'interpreter' })));
