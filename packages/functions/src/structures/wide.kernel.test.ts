import { kernelAlone } from '@tailrace/testing';
import { wideSuite } from './wide.suite.ts';

wideSuite(kernelAlone());
