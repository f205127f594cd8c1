import { userspace } from '@tailrace/userspace';
import { mapChurnSuite } from './map-churn.suite.ts';

mapChurnSuite(userspace({ cpus: 2, compile: 'quickly' }));
