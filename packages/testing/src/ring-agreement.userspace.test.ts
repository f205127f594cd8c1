import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { ringAgreementSuite } from './ring-agreement.suite.ts';

describe('wasm', { timeout: 30_000 }, () => ringAgreementSuite(userspace({ compile: 'quickly' })));
describe('interpreter', { timeout: 30_000 }, () => ringAgreementSuite(userspace({ mode: 'interpreter' })));
