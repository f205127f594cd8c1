import { kernelAlone } from '@tailrace/testing';
import { functionsSuite } from './functions.suite.ts';

functionsSuite(kernelAlone());
