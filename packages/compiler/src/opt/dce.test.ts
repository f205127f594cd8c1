import { expect, test } from 'vitest';
import { eliminateDeadCode } from './dce.ts';
import { runPasses } from './run-pass.ts';
import { lowerSignedDivision } from './signed-division.ts';

test('values, pure calls and stores that nothing reads', () => {
  const text = `
    slots s1:8 s2:8
    b0:
      %3 = load32 context ctx+12
      %4 = add %3, 1
      %5 = call 8() pure
      %6 = call 7()
      store64 stack &s1+0, %4
      store64 stack &s2+0, %3
      %7 = call 1(@flows, &s2+0) reads s2 : map
      return 0`;
  expect(runPasses(text, eliminateDeadCode)).toMatchInlineSnapshot(`
    "slots s1:8 s2:8
    b0:
      %3 = load32 context ctx+12
      %6 = call 7()
      store64 stack &s2+0, %3
      %7 = call 1(@flows, &s2+0) reads s2 : map
      return 0"
  `);
});

test('signed division on the magnitudes', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      %3 = sdiv32 %2, -3
      return %3`;
  expect(runPasses(text, lowerSignedDivision)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+12
      %6 = arsh32 %2, 31
      %8 = arsh32 -3, 31
      %9 = xor32 %2, %6
      %10 = sub32 %9, %6
      %11 = xor32 -3, %8
      %12 = sub32 %11, %8
      %13 = div32 %10, %12
      %14 = xor32 %6, %8
      %15 = xor32 %13, %14
      %16 = sub32 %15, %14
      return %16"
  `);
});
