import { expect, test } from 'vitest';
import { runPasses } from './run-pass.ts';
import { simplifyCfg } from './simplify-cfg.ts';

test('constant branches, jump chains, straight lines and equal returns', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      if 1 eq 1 then b3 else b4
    b3: <- b0
      jump b5
    b4: <- b0
      return 9
    b5: <- b3
      %6 = add %2, 1
      if %6 gt 5 then b7 else b8
    b7: <- b5
      jump b9
    b8: <- b5
      return 2
    b9: <- b7
      return 2`;
  expect(runPasses(text, simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+12
      %6 = add %2, 1
      return 2"
  `);
});

test('phis of one value go, and a block that only feeds a phi is skipped', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      if %2 eq 1 then b3 else b4
    b3: <- b0
      jump b5
    b4: <- b0
      if %2 eq 2 then b6 else b7
    b6: <- b4
      jump b5
    b7: <- b4
      jump b5
    b5: <- b3 b6 b7
      %8 = phi 1, 2, 3
      %9 = phi %2, %2, %2
      %10 = add %8, %9
      return %10`;
  expect(runPasses(text, simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+12
      if %2 eq 1 then b5 else b4
    b4: <- b0
      if %2 eq 2 then b5 else b7
    b7: <- b4
      jump b5
    b5: <- b7 b0 b4
      %8 = phi 3, 1, 2
      %10 = add %8, %2
      return %10"
  `);
});

test('an edge that would get two values of one phi stays', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      if %2 eq 1 then b3 else b4
    b3: <- b0
      jump b4
    b4: <- b0 b3
      %5 = phi 7, 8
      return %5`;
  expect(runPasses(text, simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+12
      if %2 eq 1 then b3 else b4
    b3: <- b0
      jump b4
    b4: <- b0 b3
      %5 = phi 7, 8
      return %5"
  `);
});
