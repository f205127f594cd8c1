import { userspace } from '@tailrace/userspace';
import { mapMigrationSuite } from './map-migration.suite.ts';

mapMigrationSuite(userspace({ compile: 'quickly', cpus: 2 }));
