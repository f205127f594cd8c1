import { expect, test } from 'vitest';
import { numberValues } from './gvn.ts';
import { runPasses } from './run-pass.ts';

test('values and loads of dominating blocks', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+12
      %4 = add %3, 1
      if %3 eq 8 then b5 else b6
    b5: <- b0
      %7 = load32 context ctx+0 : packet
      %8 = load16 packet %7+12
      %9 = add %8, 1
      %10 = add %9, %4
      return %10
    b6: <- b0
      return 0`;
  expect(runPasses(text, numberValues)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+12
      %4 = add %3, 1
      if %3 eq 8 then b5 else b6
    b6: <- b0
      return 0
    b5: <- b0
      %10 = add %4, %4
      return %10"
  `);
});

test('a store keeps what it does not touch, and tells what it wrote', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load8 packet %2+0
      %4 = load8 packet %2+8
      store8 packet %2+8, %3
      %5 = load8 packet %2+0
      %6 = load8 packet %2+8
      %7 = load8 packet %2+9
      store16 packet %2+8, 513
      %8 = load8 packet %2+9
      %9 = add %5, %6
      %10 = add %7, %8
      %11 = add %9, %10
      %12 = add %11, %4
      return %12`;
  expect(runPasses(text, numberValues)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load8 packet %2+0
      %4 = load8 packet %2+8
      store8 packet %2+8, %3
      %7 = load8 packet %2+9
      store16 packet %2+8, 513
      %9 = add %3, %3
      %10 = add %7, 2
      %11 = add %9, %10
      %12 = add %11, %4
      return %12"
  `);
});

test('a moved packet is another epoch', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+12
      %4 = call 44(ctx, -20) moves
      %5 = load32 context ctx+0 : packet
      %6 = load8 packet %5+0
      %7 = load8 packet %2+0
      %8 = add %6, %7
      return %8`;
  expect(runPasses(text, numberValues)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 context ctx+12
      %4 = call 44(ctx, -20) moves
      %5 = load32 context ctx+0 : packet
      %6 = load8 packet %5+0
      %7 = load8 packet %2+0
      %8 = add %6, %7
      return %8"
  `);
});

test('map memory belongs to others too: only within a block, and not across calls', () => {
  const text = `
    b0:
      %2 = mapValue @counters+0
      %3 = load64 map %2+0
      %4 = load64 map %2+0
      %5 = call 7()
      %6 = load64 map %2+0
      %7 = mapValue @counters+0
      if %3 eq %4 then b8 else b9
    b8: <- b0
      %10 = load64 map %7+0
      return %10
    b9: <- b0
      return %6`;
  expect(runPasses(text, numberValues)).toMatchInlineSnapshot(`
    "b0:
      %2 = mapValue @counters+0
      %3 = load64 map %2+0
      %5 = call 7()
      %6 = load64 map %2+0
      if %3 eq %3 then b8 else b9
    b9: <- b0
      return %6
    b8: <- b0
      %10 = load64 map %2+0
      return %10"
  `);
});

test('pure calls of one epoch', () => {
  const text = `
    b0:
      %2 = call 8() pure
      %3 = call 8() pure
      %4 = call 44(ctx, 4) moves
      %5 = call 8() pure
      %6 = add %2, %3
      %7 = add %6, %5
      return %7`;
  expect(runPasses(text, numberValues)).toMatchInlineSnapshot(`
    "b0:
      %2 = call 8() pure
      %4 = call 44(ctx, 4) moves
      %5 = call 8() pure
      %6 = add %2, %2
      %7 = add %6, %5
      return %7"
  `);
});

test('what programs write of the context changes at stores alone, and leaves the packet where it is', () => {
  const text = `
    b0:
      %2 = load32 context ctx+76 : packet
      %3 = load32 skb ctx+8
      store32 skb ctx+48, %3
      %4 = load32 context ctx+76 : packet
      %5 = load8 packet %4+0
      %6 = call 38(ctx, %5, 0) moves
      %7 = load32 skb ctx+8
      %8 = load32 skb ctx+48
      %9 = load32 context ctx+76 : packet
      %10 = load8 packet %9+0
      store32 skb ctx+8, %10
      %11 = load32 skb ctx+8
      %12 = load32 skb ctx+48
      %13 = add %7, %8
      %14 = add %11, %12
      %15 = add %13, %14
      return %15`;
  expect(runPasses(text, numberValues)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+76 : packet
      %3 = load32 skb ctx+8
      store32 skb ctx+48, %3
      %5 = load8 packet %2+0
      %6 = call 38(ctx, %5, 0) moves
      %9 = load32 context ctx+76 : packet
      %10 = load8 packet %9+0
      store32 skb ctx+8, %10
      %13 = add %3, %3
      %14 = add %10, %3
      %15 = add %13, %14
      return %15"
  `);
});
