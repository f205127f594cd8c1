import { userspace } from '@tailrace/userspace';
import { describe } from 'vitest';
import { ringAgreementSuite } from './ring-agreement.suite.ts';

describe('wasm', () => ringAgreementSuite(userspace({ compile: 'quickly' })));
describe('interpreter', () => ringAgreementSuite(userspace({ mode: 'interpreter' })));
