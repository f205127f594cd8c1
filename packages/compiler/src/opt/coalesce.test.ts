import { expect, test } from 'vitest';
import { coalesceStores } from './coalesce.ts';
import { eliminateDeadCode } from './dce.ts';
import { runPasses } from './run-pass.ts';

test('a key from neighbouring fields is loaded and stored at once', () => {
  const text = `
    slots s1:16
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load32 packet %2+26
      %4 = load32 packet %2+30
      %5 = load16 packet %2+34
      %6 = load16 packet %2+36
      %7 = load8 packet %2+23
      store32 stack &s1+0, %3
      store32 stack &s1+4, %4
      store16 stack &s1+8, %5
      store16 stack &s1+10, %6
      store8 stack &s1+12, %7
      store8 stack &s1+13, 0
      store16 stack &s1+14, 0
      %8 = call 1(@flows, &s1+0) reads s1 : map
      return 0`;
  expect(runPasses(text, coalesceStores, eliminateDeadCode)).toMatchInlineSnapshot(`
    "slots s1:16
    b0:
      %2 = load32 context ctx+0 : packet
      %7 = load8 packet %2+23
      %28 = load64 packet %2+26
      %29 = load32 packet %2+34
      store64 stack &s1+0, %28
      store32 stack &s1+8, %29
      store32 stack &s1+12, %7
      %8 = call 1(@flows, &s1+0) reads s1 : map
      return 0"
  `);
});

test('halves of a word that a helper reads are joined', () => {
  const text = `
    slots s1:4
    b0:
      %2 = load32 context ctx+12
      %3 = load32 context ctx+16
      store16 stack &s1+0, %2
      store16 stack &s1+2, %3
      %4 = call 1(@flows, &s1+0) reads s1 : map
      return 0`;
  expect(runPasses(text, coalesceStores)).toMatchInlineSnapshot(`
    "slots s1:4
    b0:
      %2 = load32 context ctx+12
      %3 = load32 context ctx+16
      %13 = and32 %2, 65535
      %15 = lsh32 %3, 16
      %16 = or32 %15, %13
      store32 stack &s1+0, %16
      %4 = call 1(@flows, &s1+0) reads s1 : map
      return 0"
  `);
});

test('constants join; a later store wins', () => {
  const text = `
    b0:
      %2 = mapValue @counters+0
      store32 map %2+0, 0
      store32 map %2+4, 0
      store8 map %2+1, 7
      return 0`;
  expect(runPasses(text, coalesceStores)).toMatchInlineSnapshot(`
    "b0:
      %2 = mapValue @counters+0
      store64 map %2+0, 1792
      return 0"
  `);
});

test('addresses swap through wide loads', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+0
      %4 = load16 packet %2+2
      %5 = load16 packet %2+4
      %6 = load16 packet %2+6
      store16 packet %2+4, %3
      store16 packet %2+6, %4
      store16 packet %2+0, %5
      store16 packet %2+2, %6
      return 0`;
  expect(runPasses(text, coalesceStores, eliminateDeadCode)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %12 = load32 packet %2+4
      %13 = load32 packet %2+0
      store32 packet %2+0, %12
      store32 packet %2+4, %13
      return 0"
  `);
});

test('not past a store that may overlap what was loaded', () => {
  const text = `
    slots s1:4
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+0
      %4 = load16 packet %2+2
      store16 packet %2+0, 5
      store16 stack &s1+0, %3
      store16 stack &s1+2, %4
      %5 = call 1(@flows, &s1+0) reads s1 : map
      return 0`;
  expect(runPasses(text, coalesceStores, eliminateDeadCode)).toMatchInlineSnapshot(`
    "slots s1:4
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+0
      %4 = load16 packet %2+2
      store16 packet %2+0, 5
      %16 = lsh32 %4, 16
      %17 = or32 %16, %3
      store32 stack &s1+0, %17
      %5 = call 1(@flows, &s1+0) reads s1 : map
      return 0"
  `);
});

test('a byte that is stored as a word brings zeros with it, and not what lies behind it', () => {
  const text = `
    slots s1:8
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load8 packet %2+0
      %4 = load32 packet %2+4
      store32 stack &s1+0, %3
      store32 stack &s1+4, %4
      %5 = call 1(@flows, &s1+0) reads s1 : map
      return 0`;
  expect(runPasses(text, coalesceStores, eliminateDeadCode)).toMatchInlineSnapshot(`
    "slots s1:8
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load8 packet %2+0
      %4 = load32 packet %2+4
      store32 stack &s1+0, %3
      store32 stack &s1+4, %4
      %5 = call 1(@flows, &s1+0) reads s1 : map
      return 0"
  `);
});

test('fields of the context stay as wide as they are', () => {
  const text = `
    b0:
      %2 = load32 skb ctx+56
      %3 = load32 skb ctx+60
      store32 skb ctx+8, 1
      store32 skb ctx+12, 2
      store32 skb ctx+48, %2
      store32 skb ctx+52, %3
      return 0`;
  expect(runPasses(text, coalesceStores, eliminateDeadCode)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 skb ctx+56
      %3 = load32 skb ctx+60
      store32 skb ctx+8, 1
      store32 skb ctx+12, 2
      store32 skb ctx+48, %2
      store32 skb ctx+52, %3
      return 0"
  `);
});
