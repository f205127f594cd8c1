import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapsHandleSuite } from './maps-handle.suite.ts';

describe('one CPU', () => mapsHandleSuite(userspace({ compile: 'quickly' })));
describe('three CPUs', () => mapsHandleSuite(userspace({ cpus: 3, compile: 'quickly' })));
