import { expect, test } from 'vitest';
import type { Graph, Value } from '../ir.ts';
import { promoteMetadata } from './promote.ts';
import { runPasses } from './run-pass.ts';

const CB = 48;
/** Two fields of the control block, of 8 bytes and of 12; the second is what the first tail call hands on. */
function promote(graph: Graph): void {
  const [call] = graph.blocks.flatMap(({ nodes }) => nodes.filter((node): node is Value => node.kind === 'call' && node.helper === 12));
  const fields = [
    { offset: CB, size: 8 },
    { offset: CB + 8, size: 12 },
  ];
  const handed = new Map(call ? [[call, fields.slice(1)]] : []);
  promoteMetadata(graph, { base: graph.context, space: 'skb', home: graph.entry, fields, handed });
}

test('a field becomes values, also around a loop, and is written for the program behind', () => {
  const text = `
    b0:
      store32 skb ctx+48, 7
      jump b2
    b2: <- b0 b2
      %3 = load32 skb ctx+48
      %4 = add %3, 1
      store32 skb ctx+48, %4
      store32 skb ctx+56, %4
      if %4 lt 9 then b2 else b5
    b5: <- b2
      %6 = load32 skb ctx+48
      %7 = call 12(ctx, @chain, 1)
      %8 = load32 skb ctx+60
      %9 = add %6, %8
      return %9`;
  expect(runPasses(text, promote)).toMatchInlineSnapshot(`
    "b0:
      %30 = load32 skb ctx+60
      %20 = zext32 7
      jump b2
    b2: <- b0 b2
      %24 = phi %20, %22
      %29 = phi %30, %29
      %4 = add %24, 1
      %22 = zext32 %4
      %25 = zext32 %4
      if %4 lt 9 then b2 else b5
    b5: <- b2
      store32 skb ctx+56, %25
      %7 = call 12(ctx, @chain, 1)
      %9 = add %22, %29
      return %9"
  `);
});

test('bytes that are shared in different ways are one value', () => {
  const text = `
    b0:
      %2 = load16 skb ctx+50
      store32 skb ctx+48, %2
      store8 skb ctx+49, 3
      %3 = load8 skb ctx+48
      %4 = load32 skb ctx+48
      %5 = add %3, %4
      return %5`;
  expect(runPasses(text, promote)).toMatchInlineSnapshot(`
    "b0:
      %23 = load32 skb ctx+48
      %11 = rsh %23, 16
      %12 = zext16 %11
      %13 = zext32 %12
      %14 = zext8 3
      %16 = and %13, -65281
      %18 = lsh %14, 8
      %19 = or %16, %18
      %21 = rsh %19, 0
      %22 = zext8 %21
      %5 = add %22, %19
      return %5"
  `);
});

test('what no path has written is not written again', () => {
  const text = `
    b0:
      %2 = load32 skb ctx+56
      %3 = load32 skb ctx+0
      if %2 gt %3 then b4 else b5
    b4: <- b0
      jump b6
    b5: <- b0
      jump b6
    b6: <- b4 b5
      %7 = load32 skb ctx+56
      %8 = call 12(ctx, @chain, 1)
      return %7`;
  expect(runPasses(text, promote)).toMatchInlineSnapshot(`
    "b0:
      %15 = load32 skb ctx+56
      %3 = load32 skb ctx+0
      if %15 gt %3 then b4 else b5
    b5: <- b0
      jump b6
    b4: <- b0
      jump b6
    b6: <- b4 b5
      %16 = phi %15, %15
      %8 = call 12(ctx, @chain, 1)
      return %16"
  `);
});

test('fields of other programs, larger ones and computed addresses stay in memory', () => {
  const large = `
    b0:
      store64 skb ctx+56, 1
      store32 skb ctx+60, 2
      store64 skb ctx+60, 3
      store32 skb ctx+16, 4
      %2 = load32 skb ctx+16
      return %2`;
  expect(runPasses(large, promote)).toMatchInlineSnapshot(`
    "b0:
      store64 skb ctx+56, 1
      store32 skb ctx+60, 2
      store64 skb ctx+60, 3
      store32 skb ctx+16, 4
      %2 = load32 skb ctx+16
      return %2"
  `);
  const computed = `
    b0:
      store32 skb ctx+48, 1
      %2 = add ctx, 4 : skb
      %3 = load32 skb %2+44
      return %3`;
  expect(runPasses(computed, promote)).toMatchInlineSnapshot(`
    "b0:
      store32 skb ctx+48, 1
      %2 = add ctx, 4 : skb
      %3 = load32 skb %2+44
      return %3"
  `);
});
