import { kernel } from '@tailrace/kernel';
import { mapLinkSuite } from './map-link.suite.ts';

mapLinkSuite(kernel({ interfaces: [] }));
