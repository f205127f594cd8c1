import { expect, test } from 'vitest';
import { eliminateDeadCode } from './dce.ts';
import { fold } from './fold.ts';
import { runPasses } from './run-pass.ts';

/** What becomes of nodes over 16, 32 and 64 bits of a packet: %3, %4 and %5. */
function foldedNodes(...nodes: readonly string[]): string {
  const loads = ['%2 = load32 context ctx+0 : packet', '%3 = load16 packet %2+0', '%4 = load32 packet %2+4', '%5 = load64 packet %2+8'];
  return runPasses(['b0:', ...loads, ...nodes].join('\n'), fold, eliminateDeadCode)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== 'b0:' && !line.includes('ctx+0'))
    .join('; ');
}

const arithmetic: Readonly<Record<string, readonly string[]>> = {
  'constants, with eBPF semantics': ['%6 = div 7, 0', '%7 = add32 %6, -1', 'return %7'],
  identities: ['%6 = add %5, 0', '%7 = mul %6, 1', '%8 = or %7, 0', 'return %8'],
  'a 32-bit identity zero-extends': ['%6 = add32 %5, 0', 'return %6'],
  'powers of two': ['%6 = mul %5, 8', '%7 = div %6, 32', 'return %7'],
  'modulo by a power of two': ['%6 = mod %5, 16', 'return %6'],
  'division of 32 bits by a constant': ['%6 = div %4, 10', 'return %6'],
  'modulo by the size of a ring': ['%6 = mod %4, 65537', 'return %6'],
  'division of 64 bits by a constant': ['%6 = div %5, 10', 'return %6'],
  'signed division of what is not negative': ['%6 = sdiv %3, 4', 'return %6'],
  'constants gather': ['%6 = add %5, 3', '%7 = sub %6, 5', '%8 = add %7, 4', 'return %8'],
  'x ^ y ^ y': ['%6 = xor %5, %4', '%7 = xor %6, %4', 'return %7'],
  'two shifts are a mask': ['%6 = lsh32 %4, 4', '%7 = rsh32 %6, 4', 'return %7'],
  'two shifts are one': ['%6 = rsh %5, 4', '%7 = rsh %6, 8', 'return %7'],
  'a mask of what is masked': ['%6 = and %3, 65535', '%7 = and %6, 255', 'return %7'],
};

test('arithmetic', () => {
  expect(Object.entries(arithmetic).map(([name, nodes]) => `${name}: ${foldedNodes(...nodes)}`)).toMatchInlineSnapshot(`
    [
      "constants, with eBPF semantics: return 4294967295",
      "identities: %5 = load64 packet %2+8; return %5",
      "a 32-bit identity zero-extends: %5 = load64 packet %2+8; %8 = zext32 %5; return %8",
      "powers of two: %5 = load64 packet %2+8; %11 = lsh %5, 3; %13 = rsh %11, 5; return %13",
      "modulo by a power of two: %5 = load64 packet %2+8; %10 = and32 %5, 15; return %10",
      "division of 32 bits by a constant: %4 = load32 packet %2+4; %9 = mul %4, 3435973837; %11 = rsh %9, 35; return %11",
      "modulo by the size of a ring: %4 = load32 packet %2+4; %9 = mul %4, 4294901761; %11 = rsh %9, 48; %13 = mul %11, 65537; %14 = sub %4, %13; return %14",
      "division of 64 bits by a constant: %5 = load64 packet %2+8; %6 = div %5, 10; return %6",
      "signed division of what is not negative: %3 = load16 packet %2+0; %10 = rsh %3, 2; return %10",
      "constants gather: %5 = load64 packet %2+8; %19 = add %5, 2; return %19",
      "x ^ y ^ y: %5 = load64 packet %2+8; return %5",
      "two shifts are a mask: %4 = load32 packet %2+4; %11 = and32 %4, 268435455; return %11",
      "two shifts are one: %5 = load64 packet %2+8; %11 = rsh %5, 12; return %11",
      "a mask of what is masked: %3 = load8 packet %2+0; return %3",
    ]
  `);
});

const extensions: Readonly<Record<string, readonly string[]>> = {
  'extensions of what is extended': ['%6 = sext32 %3', '%7 = zext32 %6', '%8 = zext16 %7', 'return %8'],
  'zext32 of sext32': ['%6 = sext32 %5', '%7 = zext32 %6', 'return %7'],
  'sext32 of 32 bits stays': ['%6 = sext32 %4', 'return %6'],
  'zext32 of arithmetic': ['%6 = add %5, 1', '%7 = zext32 %6', 'return %7'],
  '32-bit operations look through extensions': ['%6 = sext32 %5', '%7 = add32 %6, 1', 'return %7'],
  'a swap of a swap': ['%6 = swap16 %3', '%7 = swap16 %6', 'return %7'],
  'a swap of a swap that lost bits': ['%6 = swap16 %5', '%7 = swap16 %6', 'return %7'],
  'swaps meet through a mask': ['%6 = swap16 %3', '%7 = and %6, 8191', '%8 = swap16 %7', 'return %8'],
  'the upper byte of a swapped value': ['%6 = swap32 %4', '%7 = rsh %6, 24', 'return %7'],
  'the lower byte of a swapped value': ['%6 = swap16 %3', '%7 = and %6, 255', 'return %7'],
};

test('extensions and swaps', () => {
  expect(Object.entries(extensions).map(([name, nodes]) => `${name}: ${foldedNodes(...nodes)}`)).toMatchInlineSnapshot(`
    [
      "extensions of what is extended: %3 = load16 packet %2+0; return %3",
      "zext32 of sext32: %5 = load64 packet %2+8; %7 = zext32 %5; return %7",
      "sext32 of 32 bits stays: %4 = load32 packet %2+4; %6 = sext32 %4; return %6",
      "zext32 of arithmetic: %5 = load64 packet %2+8; %9 = add32 %5, 1; return %9",
      "32-bit operations look through extensions: %5 = load64 packet %2+8; %7 = add32 %5, 1; return %7",
      "a swap of a swap: %3 = load16 packet %2+0; return %3",
      "a swap of a swap that lost bits: %5 = load64 packet %2+8; %10 = and32 %5, 65535; return %10",
      "swaps meet through a mask: %3 = load16 packet %2+0; %14 = and32 %3, 65311; return %14",
      "the upper byte of a swapped value: %4 = load32 packet %2+4; %11 = and32 %4, 255; return %11",
      "the lower byte of a swapped value: %3 = load16 packet %2+0; %11 = rsh32 %3, 8; return %11",
    ]
  `);
});

const memory: Readonly<Record<string, readonly string[]>> = {
  'a masked load is a narrow one': ['%6 = and %5, 255', 'return %6'],
  'a shifted load is one from further on': ['%6 = rsh %5, 32', 'return %6'],
  'a 32-bit shift of a wide load is none': ['%6 = rsh32 %5, 32', 'return %6'],
  'a load that others read stays wide': ['%6 = and %5, 255', '%7 = add %6, %5', 'return %7'],
  'constant distances end in the offset': ['%6 = add %2, 14 : packet', '%7 = load8 packet %6+9', 'return %7'],
  'distances of computed pointers too': ['%6 = add %3, 4', '%7 = add %2, %6 : packet', '%8 = load8 packet %7+1', 'return %8'],
  'stores drop what they cut off': ['%6 = zext16 %5', 'store16 packet %2+0, %6', 'store8 packet %2+2, 511', 'return 0'],
};

test('memory', () => {
  expect(Object.entries(memory).map(([name, nodes]) => `${name}: ${foldedNodes(...nodes)}`)).toMatchInlineSnapshot(`
    [
      "a masked load is a narrow one: %5 = load8 packet %2+8; return %5",
      "a shifted load is one from further on: %5 = load32 packet %2+12; return %5",
      "a 32-bit shift of a wide load is none: %5 = load64 packet %2+8; %8 = zext32 %5; return %8",
      "a load that others read stays wide: %5 = load64 packet %2+8; %9 = and32 %5, 255; %7 = add %9, %5; return %7",
      "constant distances end in the offset: %7 = load8 packet %2+23; return %7",
      "distances of computed pointers too: %3 = load16 packet %2+0; %10 = add %2, %3 : packet; %8 = load8 packet %10+5; return %8",
      "stores drop what they cut off: %5 = load64 packet %2+8; store16 packet %2+0, %5; store8 packet %2+2, -1; return 0",
    ]
  `);
});

const comparisons: Readonly<Record<string, readonly string[]>> = {
  'a constant on the left': ['if 5 lt %5 then b1 else b2'],
  'decided by the range': ['if %3 lt 65536 then b1 else b2'],
  'a swapped value and a constant': ['%6 = swap16 %3', 'if %6 eq 2048 then b1 else b2'],
  'a swapped word and a constant': ['%6 = swap32 %4', 'if %6 ne 16909060 then b1 else b2'],
  'two swapped values': ['%6 = swap16 %3', '%7 = swap16 %3', 'if %6 eq %7 then b1 else b2'],
  'order needs the swap': ['%6 = swap16 %3', 'if %6 gt 2048 then b1 else b2'],
  'sign-extended halves': ['%6 = sext32 %5', 'if %6 slt 0 then b1 else b2'],
  'a constant without an immediate': ['if %4 eq 4294967295 then b1 else b2'],
  'bits of a swapped field': ['%6 = swap16 %3', '%7 = and %6, 16383', 'if %7 ne 0 then b1 else b2'],
  'no bits': ['%6 = and %5, 18', 'if %6 eq 0 then b1 else b2'],
  'a sum and a constant': ['%6 = add %5, 7', 'if %6 eq 10 then b1 else b2'],
  'below one': ['if %5 lt 1 then b1 else b2'],
};

test('comparisons', () => {
  const ends = ['b1: <- b0', 'return 1', 'b2: <- b0', 'return 2'];
  expect(
    Object.entries(comparisons).map(([name, nodes]) => `${name}: ${foldedNodes(...nodes, ...ends).replace(/; b[12]:.*/, '')}`),
  ).toMatchInlineSnapshot(`
    [
      "a constant on the left: %5 = load64 packet %2+8; if %5 gt 5 then b1 else b2",
      "decided by the range: if 0 eq 0 then b1 else b2",
      "a swapped value and a constant: %3 = load16 packet %2+0; if %3 eq 8 then b1 else b2",
      "a swapped word and a constant: %4 = load32 packet %2+4; if %4 ne32 67305985 then b1 else b2",
      "two swapped values: if 0 eq 0 then b1 else b2",
      "order needs the swap: %3 = load16 packet %2+0; %6 = swap16 %3; if %6 gt 2048 then b1 else b2",
      "sign-extended halves: %5 = load64 packet %2+8; if %5 slt32 0 then b1 else b2",
      "a constant without an immediate: %4 = load32 packet %2+4; if %4 eq32 4294967295 then b1 else b2",
      "bits of a swapped field: %3 = load16 packet %2+0; if %3 set32 65343 then b1 else b2",
      "no bits: %5 = load64 packet %2+8; if %5 set32 18 then b2 else b1",
      "a sum and a constant: %5 = load64 packet %2+8; if %5 eq 3 then b1 else b2",
      "below one: %5 = load64 packet %2+8; if %5 eq 0 then b1 else b2",
    ]
  `);
});

test('what a branch on the way told', () => {
  const text = `
    b0:
      %2 = load64 context ctx+0
      if %2 ge 4096 then b3 else b4
    b3: <- b0
      %5 = zext32 %2
      return %5
    b4: <- b0
      %6 = zext32 %2
      return %6`;
  expect(runPasses(text, fold, eliminateDeadCode)).toMatchInlineSnapshot(`
    "b0:
      %2 = load64 context ctx+0
      if %2 ge 4096 then b3 else b4
    b4: <- b0
      return %2
    b3: <- b0
      %5 = zext32 %2
      return %5"
  `);
});

test('a load with readers behind what is folded away stays as wide as it is', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load64 packet %2+0
      %4 = zext32 %3
      %5 = and32 %4, 65535
      store64 packet %2+8, %4
      return %5`;
  expect(runPasses(text, fold, eliminateDeadCode)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load64 packet %2+0
      %4 = zext32 %3
      %5 = and32 %3, 65535
      store64 packet %2+8, %4
      return %5"
  `);
});

test('a load that got another reader on the way stays as wide as it is', () => {
  const text = `
    b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+0
      %4 = div32 %3, 1
      %5 = and32 %4, 255
      store64 packet %2+8, %4
      return %5`;
  expect(runPasses(text, fold, eliminateDeadCode)).toMatchInlineSnapshot(`
    "b0:
      %2 = load32 context ctx+0 : packet
      %3 = load16 packet %2+0
      %5 = and32 %3, 255
      store64 packet %2+8, %3
      return %5"
  `);
});
