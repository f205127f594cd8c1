import { kernelAlone } from '@tailrace/testing';
import { exactTableSuite } from './exact-table.suite.ts';

exactTableSuite(kernelAlone());
