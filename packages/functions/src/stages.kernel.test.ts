import { kernelAlone } from '@tailrace/testing';
import { stagesSuite } from './stages.suite.ts';

stagesSuite(kernelAlone());
