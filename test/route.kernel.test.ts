import { kernel, kernelSockets } from 'tailrace';
import { routeSuite } from './route.suite.ts';

routeSuite(kernel({}), kernelSockets());
