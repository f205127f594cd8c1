import { userspace } from '@tailrace/userspace';
import { mapStoreSuite } from './map-store.suite.ts';

mapStoreSuite(userspace());
