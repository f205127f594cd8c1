import { kernelAlone } from '@tailrace/testing';
import { statementSuite } from './statement.suite.ts';

statementSuite(kernelAlone());
