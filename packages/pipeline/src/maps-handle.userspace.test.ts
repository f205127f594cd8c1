import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapsHandleSuite } from './maps-handle.suite.ts';

describe('one CPU', () => mapsHandleSuite(userspace()));
describe('three CPUs', () => mapsHandleSuite(userspace({ cpus: 3 })));
