import { userspace } from '@tailrace/userspace';
import { hooksSuite } from './hooks.suite.ts';

hooksSuite(userspace({ compile: 'quickly' }));
