import { kernelAlone } from '@tailrace/testing';
import { balancerStagesSuite } from './stages.suite.ts';

balancerStagesSuite(kernelAlone());
