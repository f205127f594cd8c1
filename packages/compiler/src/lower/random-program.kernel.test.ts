import { kernelAlone } from '@tailrace/testing';
import { randomProgramSuite } from './random-program.suite.ts';

randomProgramSuite(kernelAlone());
