import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { randomMetadataSuite } from './random-metadata.suite.ts';

describe('wasm', () => randomMetadataSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => randomMetadataSuite(userspace({ mode: 'interpreter' })));
