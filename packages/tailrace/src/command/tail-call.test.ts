import { assemble } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { tailCalls } from './tail-call.ts';

test.each([
  ['a constant right before', 'r2 = map[a]\nr3 = 5\ncall bpf_tail_call\nexit', [{ pc: 3, slot: 5 }]],
  ['a constant of 32 bits', 'w3 = 7\ncall bpf_tail_call\nexit', [{ pc: 1, slot: 7 }]],
  [
    'two calls',
    'r3 = 1\ncall bpf_tail_call\nr3 = 2\ncall bpf_tail_call\nexit',
    [
      { pc: 1, slot: 1 },
      { pc: 3, slot: 2 },
    ],
  ],
  ['gone after a call', 'r3 = 1\ncall bpf_get_prandom_u32\ncall bpf_tail_call\nexit', [{ pc: 2, slot: undefined }]],
  ['from memory', 'r3 = *(u32 *)(r6 +0)\ncall bpf_tail_call\nexit', [{ pc: 1, slot: undefined }]],
  ['from a register', 'r3 = 4\nr3 = r6\ncall bpf_tail_call\nexit', [{ pc: 2, slot: undefined }]],
  ['stored, which changes nothing', 'r3 = 4\n*(u64 *)(r10 -8) = r3\ncall bpf_tail_call\nexit', [{ pc: 2, slot: 4 }]],
  ['where a jump leads', 'if r0 == 0x0 goto there\nr3 = 1\nthere:\ncall bpf_tail_call\nexit', [{ pc: 2, slot: undefined }]],
  ['other helpers', 'r3 = 1\ncall bpf_redirect\nexit', []],
])('%s', (_, source, expected) => {
  expect(tailCalls(assemble(source).instructions)).toEqual(expected);
});
