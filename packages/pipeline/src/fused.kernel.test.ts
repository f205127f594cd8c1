import { kernel } from '@tailrace/kernel';
import { fusedSuite } from './fused.suite.ts';

fusedSuite(kernel({ interfaces: [] }));
