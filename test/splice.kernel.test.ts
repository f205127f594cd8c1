import { kernel, kernelSockets } from 'tailrace';
import { spliceSuite } from './splice.suite.ts';

spliceSuite(kernel({}), kernelSockets());
