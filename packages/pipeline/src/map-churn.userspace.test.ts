import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapChurnSuite } from './map-churn.suite.ts';

describe('wasm', { timeout: 30_000 }, () => mapChurnSuite(userspace({ cpus: 2, compile: 'quickly' })));
