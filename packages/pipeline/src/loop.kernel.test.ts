import { kernel } from '@tailrace/kernel';
import { loopSuite } from './loop.suite.ts';

loopSuite(kernel({ interfaces: [] }));
