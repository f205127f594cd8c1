import { expect, test } from 'vitest';
import { runPasses } from './run-pass.ts';
import { sinkValues } from './sink.ts';
import { mergeSlots } from './slots.ts';

test('past a call and into the branch that needs it', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+0
      %4 = load8 packet %2+9
      %5 = add %3, 14
      %6 = call 7()
      if %5 gt %6 then b7 else b8
    b7: <- b0
      %9 = load8 packet %2+1
      %10 = add %9, %4
      return %10
    b8: <- b0
      return %3`;
  expect(runPasses(text, sinkValues)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %4 = load8 packet %2+9
      %6 = call 7()
      %3 = load16 packet %2+0
      %5 = add %3, 14
      if %5 gt %6 then b7 else b8
    b8: <- b0
      return %3
    b7: <- b0
      %9 = load8 packet %2+1
      %10 = add %9, %4
      return %10"
  `);
});

test('not past a store of what it loads, nor where its operands would live longer', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+0
      %4 = add %3, 1
      store16 packet %2+0, 0
      %5 = call 7()
      store16 packet %2+2, %4
      return %5`;
  expect(runPasses(text, sinkValues)).toBe(runPasses(text));
});

test('equal keys share a slot', () => {
  const text = `
    slots s1:4 s2:4 s3:4
    b0:
      %4 = load32 context ctx+12
      store32 stack &s1+0, %4
      %5 = call 1(@flows, &s1+0) reads s1 : map
      store32 stack &s2+0, %4
      %6 = call 1(@counters, &s2+0) reads s2 : map
      store32 stack &s3+0, 0
      %7 = call 1(@flows, &s3+0) reads s3 : map
      return 0`;
  expect(runPasses(text, mergeSlots)).toMatchInlineSnapshot(`
    "slots s1:4 s3:4
    b0:
      %4 = load32 context ctx+12
      store32 stack &s1+0, %4
      %5 = call 1(@flows, &s1+0) reads s1 : map
      %6 = call 1(@counters, &s1+0) reads s1 : map
      store32 stack &s3+0, 0
      %7 = call 1(@flows, &s3+0) reads s3 : map
      return 0"
  `);
});
