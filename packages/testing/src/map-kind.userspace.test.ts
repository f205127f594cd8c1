import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapKindSuite } from './map-kind.suite.ts';

describe('wasm', { timeout: 30_000 }, () => mapKindSuite(userspace({ compile: 'quickly' })));
