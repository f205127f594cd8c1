import { assemble, slotsOf } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { stackDepth } from './object-stack.ts';

const depthOf = (text: string): number => {
  const { instructions } = assemble(text);
  let end = 0;
  const byPc = new Map(
    instructions.map((instruction) => {
      const pc = end;
      end += slotsOf(instruction);
      return [pc, instruction] as const;
    }),
  );
  return stackDepth({ start: 0, end, instructions: byPc });
};

const cases: readonly (readonly [what: string, text: string, depth: number])[] = [
  ['nothing', 'r0 = 1\nexit', 0],
  ['stores and loads by the frame pointer', '*(u8 *)(r10 -3) = 1\nr1 = *(u64 *)(r10 -24)\nexit', 24],
  ['atomics', 'r1 = 1\nlock *(u64 *)(r10 -40) += r1\nexit', 40],
  ['a pointer that is handed on', 'r2 = r10\nr2 += -100\ncall bpf_map_lookup_elem#1\nexit', 100],
  ['a copy of a pointer, and what it points at', 'r2 = r10\nr2 += -16\nr3 = r2\n*(u32 *)(r3 -8) = 1\nexit', 24],
  ['subtraction', 'r2 = r10\nr2 -= 48\nexit', 48],
  ['the lowest of two ways', 'r2 = r10\nr2 += -8\nif r1 == 0 goto low\ngoto use\nlow:\nr2 += -64\nuse:\n*(u64 *)(r2 -8) = 1\nexit', 80],
  ['an index upwards from an array', 'r2 = r10\nr2 += -64\nr2 += r1\n*(u8 *)(r2 +0) = 1\nexit', 64],
  ['a pointer added to an index', 'r2 = r10\nr2 += -64\nr1 += r2\n*(u8 *)(r1 -8) = 1\nexit', 72],
  ['a loop upwards', 'r2 = r10\nr2 += -64\nagain:\n*(u8 *)(r2 +0) = 1\nr2 += 1\nif r2 != 7 goto again\nexit', 64],
  ['a loop downwards: all of it', 'r2 = r10\nagain:\nr2 += -1\n*(u8 *)(r2 +0) = 1\nif r2 != 7 goto again\nexit', 512],
  ['an index downwards: all of it', 'r2 = r10\nr2 -= r1\nexit', 512],
  ['arithmetic that no pointer goes through: all of it', 'r2 = r10\nr2 &= -8\nexit', 512],
  ['a distance between pointers', 'r2 = r10\nr2 += -8\nr3 = r10\nr3 -= r2\nr3 -= 1000\nexit', 8],
  [
    'registers that calls and loads fill anew',
    'r2 = r10\nr6 = r10\ncall bpf_ktime_get_ns#5\nr2 += -100\nr6 = *(u64 *)(r1 +0)\nr6 += -100\nexit',
    0,
  ],
  ['32-bit arithmetic leaves no pointer', 'w2 = w10\nw2 += -100\nexit', 0],
  ['registers of the callee are not its own', 'r1 += -100\n*(u64 *)(r1 -8) = 1\nexit', 0],
];

test.each(cases)('%s', (_, text, depth) => {
  expect(depthOf(text)).toBe(depth);
});
