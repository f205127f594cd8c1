import { userspace } from '@tailrace/userspace';
import { mapChangesSuite } from './map-changes.suite.ts';

mapChangesSuite(userspace({ compile: 'quickly', cpus: 2 }));
