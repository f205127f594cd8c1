import { userspace, userspaceSockets } from 'tailrace';
import { spliceSuite } from './splice.suite.ts';

spliceSuite(userspace({ compile: 'quickly' }), userspaceSockets());
