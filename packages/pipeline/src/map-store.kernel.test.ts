import { kernel } from '@tailrace/kernel';
import { mapStoreSuite } from './map-store.suite.ts';

mapStoreSuite(kernel({ interfaces: [] }));
