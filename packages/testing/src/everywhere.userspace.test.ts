import { userspace } from '@tailrace/userspace';
import { everywhereSuite } from './everywhere.suite.ts';

everywhereSuite(userspace({ compile: 'quickly' }));
