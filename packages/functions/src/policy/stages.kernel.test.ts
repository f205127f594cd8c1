import { kernelAlone } from '@tailrace/testing';
import { policyStagesSuite } from './stages.suite.ts';

policyStagesSuite(kernelAlone());
