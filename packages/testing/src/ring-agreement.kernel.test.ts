import { kernelAlone } from './kernel-alone.ts';
import { ringAgreementSuite } from './ring-agreement.suite.ts';

ringAgreementSuite(kernelAlone());
