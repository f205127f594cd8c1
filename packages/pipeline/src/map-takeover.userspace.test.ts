import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapTakeoverSuite } from './map-takeover.suite.ts';

describe('wasm', { timeout: 30_000 }, () => mapTakeoverSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => mapTakeoverSuite(userspace({ mode: 'interpreter' })));
