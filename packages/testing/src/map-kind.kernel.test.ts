import { kernel } from '@tailrace/kernel';
import { mapKindSuite } from './map-kind.suite.ts';

mapKindSuite(kernel({ interfaces: [] }));
