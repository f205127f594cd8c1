import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapKindSuite } from './map-kind.suite.ts';

describe('wasm', () => mapKindSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => mapKindSuite(userspace({ mode: 'interpreter' })));
