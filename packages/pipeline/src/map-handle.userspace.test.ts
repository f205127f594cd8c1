import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapHandleSuite } from './map-handle.suite.ts';

describe('one CPU', { timeout: 30_000 }, () => mapHandleSuite(userspace({ compile: 'quickly' })));
describe('three CPUs', { timeout: 30_000 }, () => mapHandleSuite(userspace({ cpus: 3, compile: 'quickly' })));
