import { expect, test } from 'vitest';
import { fold } from './fold.ts';
import { flagNullTests } from './null-flag.ts';
import { runPasses } from './run-pass.ts';
import { simplifyCfg } from './simplify-cfg.ts';
import { threadJumps } from './thread.ts';

test('a header that is there is not tested for null', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+4 : packet
      check %2 +34 <= %3 ok b4 fail b5
    b4: <- b0
      %6 = add %2, 14 : packet
      jump b7
    b5: <- b0
      jump b7
    b7: <- b4 b5
      %8 = phi %6, 0 : packet
      if %8 eq 0 then b9 else b10
    b9: <- b7
      return 2
    b10: <- b7
      %11 = load8 packet %8+9
      return %11`;
  expect(runPasses(text, (graph) => threadJumps(graph), simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+4 : packet
      check %2 +34 <= %3 ok b4 fail b9
    b9: <- b0
      return 2
    b4: <- b0
      %6 = add %2, 14 : packet
      %11 = load8 packet %6+9
      return %11"
  `);
});

test('what the copied block made is joined where both ways meet again', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      if %2 eq 1 then b3 else b4
    b3: <- b0
      jump b5
    b4: <- b0
      jump b5
    b5: <- b3 b4
      %6 = phi 1, %2
      %7 = add %6, 5
      if %6 eq 1 then b8 else b9
    b8: <- b5
      %10 = call 7()
      jump b11
    b9: <- b5
      jump b11
    b11: <- b8 b9
      return %7`;
  expect(runPasses(text, (graph) => threadJumps(graph))).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+12
      if %2 eq 1 then b3 else b4
    b4: <- b0
      jump b25
    b25: <- b4
      %26 = phi %2
      %27 = add %26, 5
      jump b9
    b9: <- b25
      jump b11
    b3: <- b0
      jump b20
    b20: <- b3
      %21 = phi 1
      %22 = add %21, 5
      jump b8
    b8: <- b20
      %24 = phi %22
      %10 = call 7()
      jump b11
    b11: <- b8 b9
      %23 = phi %24, %27
      return %23"
  `);
});

test('a branch that an earlier one decides', () => {
  const text = `
    b0:
      %2 = load32 context ctx+12
      if %2 gt 100 then b3 else b4
    b3: <- b0
      if %2 eq 50 then b5 else b6
    b4: <- b0
      if %2 le 100 then b5 else b6
    b5: <- b3 b4
      return 1
    b6: <- b3 b4
      return 2`;
  expect(runPasses(text, (graph) => threadJumps(graph), simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+12
      if %2 gt 100 then b6 else b5
    b5: <- b0
      return 1
    b6: <- b0
      return 2"
  `);
});

test('a loop is entered past its test, once', () => {
  const text = `
    b0:
      jump b1
    b1: <- b0 b2
      %3 = phi 0, %6
      %4 = phi 0, %7
      if %3 lt 4 then b2 else b5
    b2: <- b1
      %6 = add %3, 1
      %7 = add %4, %3
      jump b1
    b5: <- b1
      return %4`;
  expect(runPasses(text, (graph) => threadJumps(graph), simplifyCfg)).toMatchInlineSnapshot(`
    "b0:
      jump b2
    b2: <- b2 b0
      %17 = phi %6, 0
      %18 = phi %7, 0
      %6 = add %17, 1
      %7 = add %18, %17
      if %6 lt 4 then b2 else b5
    b5: <- b2
      return %7"
  `);
});

test('where a null test stays, the verifier sees a flag', () => {
  const calls = Array.from({ length: 12 }, (_, i) => `%${100 + i} = call 7()`).join('\n');
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+4 : packet
      check %2 +34 <= %3 ok b4 fail b5
    b4: <- b0
      jump b7
    b5: <- b0
      jump b7
    b7: <- b4 b5
      %8 = phi %2, 0 : packet
      ${calls}
      if %8 eq 0 then b9 else b10
    b9: <- b7
      return 2
    b10: <- b7
      %11 = load8 packet %8+9
      return %11`;
  const out = runPasses(text, (graph) => threadJumps(graph), flagNullTests, simplifyCfg, fold);
  expect(out.replace(/( {2}%\d+ = call 7\(\)\n)+/, '  …\n')).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+4 : packet
      check %2 +34 <= %3 ok b7 fail b5
    b5: <- b0
      jump b7
    b7: <- b5 b0
      %8 = phi 0, %2 : packet
      %116 = phi 0, 1
      …
      if %116 eq 0 then b9 else b10
    b10: <- b7
      %11 = load8 packet %2+9
      return %11
    b9: <- b7
      return 2"
  `);
});
