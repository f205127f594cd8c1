import { kernelAlone } from '@tailrace/testing';
import { describe } from 'vitest';
import { functionsSuite } from './functions.suite.ts';

describe('chained', () => functionsSuite(kernelAlone()));
describe('fused', () => functionsSuite(kernelAlone(), { fuse: true }));
