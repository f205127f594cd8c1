import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapsHandleSuite } from './maps-handle.suite.ts';

describe('one CPU', { timeout: 30_000 }, () => mapsHandleSuite(userspace({ compile: 'quickly' })));
describe('three CPUs', { timeout: 30_000 }, () => mapsHandleSuite(userspace({ cpus: 3, compile: 'quickly' })));
