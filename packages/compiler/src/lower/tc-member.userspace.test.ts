import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { tcMemberSuite } from './tc-member.suite.ts';

describe('wasm', { timeout: 30_000 }, () => tcMemberSuite(userspace({ compile: 'quickly' })));
