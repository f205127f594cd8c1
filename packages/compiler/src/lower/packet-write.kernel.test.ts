import { kernelAlone } from '@tailrace/testing';
import { packetWriteSuite } from './packet-write.suite.ts';

packetWriteSuite(kernelAlone());
