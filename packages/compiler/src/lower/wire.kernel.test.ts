import { kernelAlone } from '@tailrace/testing';
import { wireSuite } from './wire.suite.ts';

wireSuite(kernelAlone());
