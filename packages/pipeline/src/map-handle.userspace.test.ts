import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapHandleSuite } from './map-handle.suite.ts';

describe('one CPU', () => mapHandleSuite(userspace({ compile: 'quickly' })));
describe('three CPUs', () => mapHandleSuite(userspace({ cpus: 3, compile: 'quickly' })));
