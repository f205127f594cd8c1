import { kernel } from '@tailrace/kernel';
import { mapChurnSuite } from './map-churn.suite.ts';

// In the own namespace: test runs are made on a pool thread there, and so beside this one.
mapChurnSuite(kernel({ interfaces: [] }));
