import { userspace, userspaceSockets } from 'tailrace';
import { routeSuite } from './route.suite.ts';

routeSuite(userspace({ compile: 'quickly' }), userspaceSockets());
