import { userspace } from '@tailrace/userspace';
import { describe, expect, test } from 'vitest';
import { mark } from './index.ts';
import { markSuite } from './mark.suite.ts';

describe('wasm', { timeout: 30_000 }, () => markSuite(userspace({ compile: 'quickly' })));

test.each([
  ['a prefix', () => mark({ marks: { somewhere: 1 } }), /'somewhere'/],
  ['a mark', () => mark({ marks: { '10.0.0.0/8': 0 } }), "mark of '10.0.0.0/8' is 0, expected 1..4294967295"],
  ['a size', () => mark({ maxEntries: 0 }), 'mark: maxEntries is 0, expected 1..16777216'],
])('refuses %s that is none', (_what, act, message) => {
  expect(act).toThrow(message);
});
