import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { mapLinkSuite } from './map-link.suite.ts';

describe('wasm', { timeout: 30_000 }, () => mapLinkSuite(userspace({ compile: 'quickly' })));
