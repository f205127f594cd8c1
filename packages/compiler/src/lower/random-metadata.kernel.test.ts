import { kernelAlone } from '@tailrace/testing';
import { randomMetadataSuite } from './random-metadata.suite.ts';

randomMetadataSuite(kernelAlone());
