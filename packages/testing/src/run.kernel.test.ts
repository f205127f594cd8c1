import { kernelAlone } from './kernel-alone.ts';
import { runSuite } from './run.suite.ts';

runSuite(kernelAlone());
