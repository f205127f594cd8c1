import { kernelAlone } from '@tailrace/testing';
import { packetSumSuite } from './packet-sum.suite.ts';

packetSumSuite(kernelAlone());
