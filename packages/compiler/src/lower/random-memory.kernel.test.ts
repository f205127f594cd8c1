import { kernelAlone } from '@tailrace/testing';
import { randomMemorySuite } from './random-memory.suite.ts';

randomMemorySuite(kernelAlone());
