import { kernelAlone } from '@tailrace/testing';
import { monitorStageSuite } from './stage.suite.ts';

monitorStageSuite(kernelAlone());
