import { kernelAlone } from '@tailrace/testing';
import { updateChecksumSuite } from './update-checksum.suite.ts';

updateChecksumSuite(kernelAlone());
