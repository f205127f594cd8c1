import { kernelAlone } from '@tailrace/testing';
import { memorySuite } from './memory.suite.ts';

memorySuite(kernelAlone());
