import { everywhereSuite } from './everywhere.suite.ts';
import { kernelAlone } from './kernel-alone.ts';

everywhereSuite(kernelAlone());
