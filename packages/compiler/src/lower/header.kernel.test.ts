import { kernelAlone } from '@tailrace/testing';
import { headerSuite } from './header.suite.ts';

headerSuite(kernelAlone());
