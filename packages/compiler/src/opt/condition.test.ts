import { expect, test } from 'vitest';
import { repeatConditions } from './condition.ts';
import { eliminateDeadCode } from './dce.ts';
import { runPasses } from './run-pass.ts';
import { simplifyCfg } from './simplify-cfg.ts';

test('a boolean is not made where its condition can be asked again', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      %3 = and %2, 3
      if %3 eq 3 then b4 else b5
    b4: <- b0
      jump b6
    b5: <- b0
      jump b6
    b6: <- b4 b5
      %7 = phi 1, 0
      %8 = call 7()
      if %7 eq 0 then b9 else b10
    b9: <- b6
      return 1
    b10: <- b6
      return %8`;
  expect(runPasses(text, repeatConditions, eliminateDeadCode, simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+12
      %3 = and %2, 3
      %8 = call 7()
      if %3 ne 3 then b9 else b10
    b10: <- b0
      return %8
    b9: <- b0
      return 1"
  `);
});

test('set changes sides instead of its sense', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      if %2 set 3 then b4 else b5
    b4: <- b0
      %6 = call 7()
      jump b7
    b5: <- b0
      jump b7
    b7: <- b4 b5
      %8 = phi 1, 0
      if %8 eq 0 then b9 else b10
    b9: <- b7
      return 1
    b10: <- b7
      return 2`;
  expect(runPasses(text, repeatConditions, eliminateDeadCode)).toContain('if %2 set 3 then b10 else b9');
});

test('not where both sides may bring either', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      if %2 gt 3 then b4 else b5
    b4: <- b0
      if %2 gt 5 then b7 else b6
    b6: <- b4
      jump b7
    b5: <- b0
      jump b7
    b7: <- b4 b5 b6
      %8 = phi 1, 0, 0
      %9 = call 7()
      if %8 eq 0 then b10 else b11
    b10: <- b7
      return 1
    b11: <- b7
      return %9`;
  expect(runPasses(text, repeatConditions)).toBe(runPasses(text));
});
