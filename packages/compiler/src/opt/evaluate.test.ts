import { expect, test } from 'vitest';
import { evaluateBinary, evaluateCompare, evaluateUnary } from './evaluate.ts';
import { interpret } from './interpret.ts';
import { parseGraph } from './parse-graph.ts';
import { SimulatedWorld } from './simulated-world.ts';

const MIN = -(1n << 63n);

test.each([
  ['add', 64, (1n << 63n) - 1n, 1n, MIN],
  ['sub', 32, 0n, 1n, 0xffff_ffffn],
  ['mul', 32, 0x1_0000_0003n, 5n, 15n],
  ['div', 64, -1n, 2n, (1n << 63n) - 1n],
  ['div', 64, 7n, 0n, 0n],
  ['mod', 32, -1n, 0n, 0xffff_ffffn],
  ['sdiv', 64, MIN, -1n, MIN],
  ['sdiv', 32, -7n, 2n, 0xffff_fffdn],
  ['smod', 64, -7n, 2n, -1n],
  ['lsh', 64, 1n, 65n, 2n],
  ['arsh', 32, 0x8000_0000n, 4n, 0xf800_0000n],
  ['rsh', 64, -1n, 60n, 15n],
] as const)('%s%i(%s, %s) is %s', (op, width, left, right, result) => {
  expect(evaluateBinary(op, width, left, right)).toBe(result);
});

test.each([
  ['neg', 1n, -1n],
  ['sext8', 0x80n, -128n],
  ['zext16', -1n, 0xffffn],
  ['swap16', 0x1_1234n, 0x3412n],
  ['swap32', 0x0102_0304n, 0x0403_0201n],
  ['swap64', 1n, 1n << 56n],
] as const)('%s(%s) is %s', (op, operand, result) => {
  expect(evaluateUnary(op, operand)).toBe(result);
});

test('comparisons look at their width', () => {
  expect(evaluateCompare('eq', 32, 1n << 32n, 0n)).toBe(true);
  expect(evaluateCompare('eq', 64, 1n << 32n, 0n)).toBe(false);
  expect(evaluateCompare('gt', 64, -1n, 1n)).toBe(true);
  expect(evaluateCompare('sgt', 64, -1n, 1n)).toBe(false);
  expect(evaluateCompare('set', 64, 6n, 2n)).toBe(true);
});

test('an access outside of all memory and a loop without end are traps', () => {
  const wild = parseGraph('b0:\n%2 = load64 context ctx+100\nreturn %2');
  expect(() => interpret(wild, new SimulatedWorld(new Uint8Array(20)))).toThrow('access of 8 bytes at 0x10000064 is outside of all memory');
  const endless = parseGraph('b0:\njump b1\nb1: <- b0 b1\njump b1');
  expect(() => interpret(endless, new SimulatedWorld(new Uint8Array(20)), 50)).toThrow('no return within 50 blocks');
});
