import { kernel } from '@tailrace/kernel';
import { mapHandleSuite } from './map-handle.suite.ts';

mapHandleSuite(kernel({ interfaces: [] }));
