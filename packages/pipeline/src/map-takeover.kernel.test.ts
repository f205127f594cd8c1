import { kernel } from '@tailrace/kernel';
import { mapTakeoverSuite } from './map-takeover.suite.ts';

mapTakeoverSuite(kernel({ interfaces: [] }));
