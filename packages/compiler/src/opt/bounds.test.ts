import { expect, test } from 'vitest';
import { mergeChecks } from './bounds.ts';
import { runPasses } from './run-pass.ts';
import { simplifyCfg } from './simplify-cfg.ts';
import { threadJumps } from './thread.ts';

const before = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+4 : packet
      check %2 +14 <= %3 ok b4 fail b9`;

test('a smaller check behind a larger one goes', () => {
  const text = `${before}
    b4: <- b0
      %5 = add %2, 4 : packet
      check %5 +8 <= %3 ok b6 fail b9
    b6: <- b4
      return 1
    b9: <- b0 b4
      return 2`;
  expect(runPasses(text, mergeChecks, (graph) => threadJumps(graph), simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+4 : packet
      check %2 +14 <= %3 ok b4 fail b9
    b9: <- b0
      return 2
    b4: <- b0
      %5 = add %2, 4 : packet
      return 1"
  `);
});

test('a larger check is done at once where all other ways fail alike', () => {
  const text = `${before}
    b4: <- b0
      %5 = load16 packet %2+12
      if %5 ne 8 then b9 else b6
    b6: <- b4
      %7 = add %2, 14 : packet
      check %7 +20 <= %3 ok b8 fail b9
    b8: <- b6
      return 1
    b9: <- b0 b4 b6
      return 2`;
  expect(runPasses(text, mergeChecks, simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+4 : packet
      check %2 +34 <= %3 ok b4 fail b9
    b4: <- b0
      %5 = load16 packet %2+12
      if %5 ne 8 then b9 else b6
    b6: <- b4
      %7 = add %2, 14 : packet
      return 1
    b9: <- b0 b4
      return 2"
  `);
});

test('not where a short packet would be told from another', () => {
  const text = `${before}
    b4: <- b0
      %5 = load16 packet %2+12
      if %5 ne 8 then b10 else b6
    b6: <- b4
      check %2 +34 <= %3 ok b8 fail b9
    b8: <- b6
      return 1
    b9: <- b0 b6
      return 2
    b10: <- b4
      return 3`;
  expect(runPasses(text, mergeChecks, simplifyCfg)).toContain('check %2 +14');
});

test('not past a store', () => {
  const text = `${before}
    b4: <- b0
      store8 packet %2+0, 1
      check %2 +34 <= %3 ok b8 fail b9
    b8: <- b4
      return 1
    b9: <- b0 b4
      return 2`;
  expect(runPasses(text, mergeChecks, simplifyCfg)).toContain('check %2 +14');
});
