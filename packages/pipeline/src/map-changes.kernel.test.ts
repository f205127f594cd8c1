import { kernel } from '@tailrace/kernel';
import { mapChangesSuite } from './map-changes.suite.ts';

mapChangesSuite(kernel({ interfaces: [] }));
