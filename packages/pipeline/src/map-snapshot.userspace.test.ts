import { userspace } from '@tailrace/userspace';
import { mapSnapshotSuite } from './map-snapshot.suite.ts';

mapSnapshotSuite(userspace({ compile: 'quickly', cpus: 2 }));
