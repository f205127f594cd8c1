import { kernel } from '@tailrace/kernel';
import { runningSuite } from './running.suite.ts';

runningSuite(kernel({ interfaces: [] }));
