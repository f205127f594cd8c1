import { kernelAlone } from '@tailrace/testing';
import { contextSuite } from './context.suite.ts';

contextSuite(kernelAlone());
