import { kernelAlone } from '@tailrace/testing';
import { callSuite } from './call.suite.ts';

callSuite(kernelAlone());
