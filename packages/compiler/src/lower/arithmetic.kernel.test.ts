import { kernelAlone } from '@tailrace/testing';
import { arithmeticSuite } from './arithmetic.suite.ts';

arithmeticSuite(kernelAlone());
