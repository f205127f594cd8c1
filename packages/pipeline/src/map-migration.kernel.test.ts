import { kernel } from '@tailrace/kernel';
import { mapMigrationSuite } from './map-migration.suite.ts';

mapMigrationSuite(kernel({ interfaces: [] }));
