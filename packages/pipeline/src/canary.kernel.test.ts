import { kernel } from '@tailrace/kernel';
import { canarySuite } from './canary.suite.ts';

canarySuite(kernel({ interfaces: [] }));
