import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { updateChecksumSuite } from './update-checksum.suite.ts';

describe('wasm', { timeout: 30_000 }, () => updateChecksumSuite(userspace({ compile: 'quickly' })));
