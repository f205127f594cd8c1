import { kernel } from '@tailrace/kernel';
import { perfEventsSuite } from './perf-events.suite.ts';

perfEventsSuite(kernel({ interfaces: [] }));
