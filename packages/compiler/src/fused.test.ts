/** Fused programs as they are compiled; that they do what their stages do in a chain is shown where chains are planned. */
import { disassemble } from '@tailrace/bpf';
import { type AnyStage, array, hash, struct, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { compileFused, compileStage } from './compile.ts';
import { CompileError, formatDiagnostic } from './diagnostic.ts';
import { stageOf } from './fixture.ts';
import type { FusedPart } from './lower/fused.ts';
import { counterNames, type Edge, type MetadataPlace } from './placement.ts';

const mark: MetadataPlace = { layout: u32.layout, offset: 16 };
const STATE_HEADER = 32;

/** Parts of a chain with one metadata field; counters follow each other. */
function partOf(stage: AnyStage, next: Edge, exits: Readonly<Record<string, Edge>> = {}, index = 0): FusedPart {
  const counters = STATE_HEADER + index * 8 * counterNames('xdp', Object.keys(exits)).length;
  const state = { map: 'state', length: 0, counters };
  return { name: stage.name, stage, placement: { array: 'chain', next, exits, state, metadata: { mark } } };
}

const pass: Edge = { verdict: 'pass' };

function refused(...parts: [FusedPart, ...FusedPart[]]): string {
  try {
    compileFused(parts, { name: 'fused' });
  } catch (error) {
    if (error instanceof CompileError) return formatDiagnostic(error.diagnostic);
    throw error;
  }
  expect.unreachable('compiled');
}

const checked = 'const ip = ctx.ipv4(); if (!ip) return ctx.drop();';
const [first, second] = [
  stageOf(`${checked} ctx.meta.mark = ip.ttl; return ctx.next();`, { name: 'first', writes: { mark: u32 } }),
  stageOf(`${checked} return ip.protocol === 6 && ctx.meta.mark > 3 ? ctx.exit('tcp') : ctx.next();`, {
    name: 'second',
    reads: { mark: u32 },
  }),
];

test('parses, bounds checks and the state are shared, and metadata are registers', () => {
  const tcp: Edge = { slot: 3, carries: [mark] };
  const { program } = compileFused([partOf(first, { part: 'second' }), partOf(second, pass, { tcp }, 1)], { name: 'fused' });
  expect(disassemble(program.instructions)).toMatchInlineSnapshot(`
    "0: r6 = r1
    1: *(u32 *)(r10 -8) = 0
    2: r1 = map[fd:0]
    4: r2 = r10
    5: r2 += -8
    6: call bpf_map_lookup_elem#1
    7: if r0 == 0x0 goto pc+61
    8: r4 = *(u32 *)(r6 +4)
    9: r1 = *(u32 *)(r6 +0)
    10: r2 = r1
    11: r2 += 34
    12: if r2 > r4 goto pc+47
    13: r2 = *(u16 *)(r1 +12)
    14: if r2 != 0x8 goto pc+56
    15: r2 = *(u8 *)(r1 +14)
    16: w2 += -69
    17: if r2 > 0xa goto pc+42
    18: r4 = *(u8 *)(r1 +22)
    19: r3 = *(u64 *)(r0 +0)
    20: r2 = *(u64 *)(r0 +32)
    21: r2 += r3
    22: *(u64 *)(r0 +32) = r2
    23: r2 = *(u64 *)(r0 +88)
    24: r2 += 1
    25: *(u64 *)(r0 +88) = r2
    26: r1 = *(u8 *)(r1 +23)
    27: if r1 == 0x6 goto pc+8
    28: r1 = *(u64 *)(r0 +104)
    29: r1 += r3
    30: *(u64 *)(r0 +104) = r1
    31: r1 = *(u64 *)(r0 +160)
    32: r1 += 1
    33: *(u64 *)(r0 +160) = r1
    34: r0 = 2
    35: exit
    36: if r4 <= 0x3 goto pc-9
    37: r1 = *(u64 *)(r0 +104)
    38: r1 += r3
    39: *(u64 *)(r0 +104) = r1
    40: r1 = *(u64 *)(r0 +168)
    41: r1 += 1
    42: *(u64 *)(r0 +168) = r1
    43: *(u32 *)(r0 +16) = r4
    44: r1 = r6
    45: r2 = map[fd:0]
    47: r3 = 3
    48: call bpf_tail_call#12
    49: r1 = map[fd:0]
    51: r2 = r10
    52: r2 += -8
    53: call bpf_map_lookup_elem#1
    54: if r0 == 0x0 goto pc+14
    55: r1 = *(u64 *)(r0 +112)
    56: r1 += 1
    57: *(u64 *)(r0 +112) = r1
    58: r0 = 2
    59: exit
    60: r2 = *(u64 *)(r0 +0)
    61: r1 = *(u64 *)(r0 +32)
    62: r1 += r2
    63: *(u64 *)(r0 +32) = r1
    64: r1 = *(u64 *)(r0 +56)
    65: r1 += 1
    66: *(u64 *)(r0 +56) = r1
    67: r0 = 1
    68: exit
    69: r0 = 0
    70: exit
    71: if r2 == 0xdd86 goto pc-12
    72: if r2 != 0x81 goto pc+12
    73: r3 = *(u16 *)(r1 +16)
    74: if r3 != 0x81 goto pc+12
    75: r3 = *(u16 *)(r1 +20)
    76: r1 += 8
    77: if r3 != 0x8 goto pc-18
    78: r2 = r1
    79: r2 += 34
    80: if r2 > r4 goto pc-21
    81: r2 = *(u8 *)(r1 +14)
    82: w2 += -69
    83: if r2 > 0xa goto pc-24
    84: goto pc-67
    85: if r2 == 0xa888 goto pc-13
    86: goto pc-27
    87: r2 = r1
    88: r2 += 4
    89: if r3 == 0xa888 goto pc-15
    90: r1 = r2
    91: goto pc-15"
  `);
});

test('maps of one name are told apart, and one map stays one', () => {
  const maps = ['a', 'b'].map((name) => hash({ name, key: u32, value: u32, maxEntries: 1 }));
  const body = 'return t.lookup(1) ? ctx.drop() : ctx.next();';
  const parts = [...maps, maps[0]].map((t, i) => stageOf(body, { name: `s${i}`, uses: { t } }));
  const [s0, s1, s2] = parts as [AnyStage, AnyStage, AnyStage];
  const compiled = compileFused([partOf(s0, { part: 's1' }), partOf(s1, { part: 's2' }), partOf(s2, pass)], { name: 'fused' });
  expect([...compiled.maps]).toEqual([
    ['t', maps[0]],
    ['t:2', maps[1]],
  ]);
});

test('a part that no path leads to is left out', () => {
  const never = stageOf('for (const l of []) return ctx.exit(l); return ctx.next();', { name: 'never' });
  const tail = stageOf('return ctx.drop();', { name: 'tail' });
  const alone = compileFused([partOf(never, pass)], { name: 'fused' });
  const both = compileFused([partOf(never, pass), partOf(tail, pass)], { name: 'fused' });
  expect(both.program.instructions).toEqual(alone.program.instructions);
});

test('a diagnostic names the part', () => {
  const wrong = stageOf('return ctx.nxt();', { name: 'wrong' });
  expect(refused(partOf(first, { part: 'wrong' }), partOf(wrong, pass))).toMatchInlineSnapshot(`
    "stage.ts:2:12: stage 'wrong': ctx has no member 'nxt'
     2 | return ctx.nxt();
       |            ^^^
       = hint: did you mean 'next'?"
  `);
});

test('stack that only all parts together lack is told by part', () => {
  const names = Array.from({ length: 8 }, (_, i) => `m${i}`);
  const metadata = Object.fromEntries(names.map((name, i) => [name, { layout: u64.layout, offset: 16 + 8 * i }]));
  const part = (body: string, name: string, options: object, next: Edge): FusedPart => {
    const state = { map: 'state', length: 0, counters: 80 };
    return { name, stage: stageOf(body, { name, ...options }), placement: { array: 'chain', next, exits: {}, state, metadata } };
  };
  const fields = Object.fromEntries(names.map((name) => [name, u64]));
  const key = struct({ rows: array(struct({ a: u64 }), 62) });
  const big = hash({ name: 'big', key, value: u32, maxEntries: 1 });
  const rows = Array.from({ length: 62 }, (_, i) => `{ a: ${i}n }`).join();
  const writer = names.map((name) => `ctx.meta.${name} = BigInt(ctx.random());`).join(' ');
  const reader = `return ${names.map((name) => `ctx.meta.${name}`).join(' ^ ')} ? ctx.drop() : ctx.next();`;
  expect(
    refused(
      part(`${writer} return ctx.next();`, 'writer', { writes: fields }, { part: 'key' }),
      part(`return big.lookup({ rows: [${rows}] }) ? ctx.drop() : ctx.next();`, 'key', { uses: { big } }, { part: 'reader' }),
      part(reader, 'reader', { reads: fields }, pass),
    ),
  ).toMatchInlineSnapshot(`
    "stage.ts:2:8: stage 'fused': the program needs 544 bytes of stack at once ('writer' 8, 'key' 496, 'reader' 8), expected at most 512
     2 | return big.lookup({ rows: [{ a: 0n },{ a: 1n },{ a: 2n },{ a: 3n },{ a: 4n },{ a: 5n },{ a: 6n },{ a: 7n },{ a: 8n },{ a: 9n },{ a: 10n },{ a: 11n },{ a: 12n },{ a: 13n },{ a: 14n },{ a: 15n },{ a: 16n },{ a: 17n },{ a: 18n },{ a: 19n },{ a: 20n },{ a: 21n },{ a: 22n },{ a: 23n },{ a: 24n },{ a: 25n },{ a: 26n },{ a: 27n },{ a: 28n },{ a: 29n },{ a: 30n },{ a: 31n },{ a: 32n },{ a: 33n },{ a: 34n },{ a: 35n },{ a: 36n },{ a: 37n },{ a: 38n },{ a: 39n },{ a: 40n },{ a: 41n },{ a: 42n },{ a: 43n },{ a: 44n },{ a: 45n },{ a: 46n },{ a: 47n },{ a: 48n },{ a: 49n },{ a: 50n },{ a: 51n },{ a: 52n },{ a: 53n },{ a: 54n },{ a: 55n },{ a: 56n },{ a: 57n },{ a: 58n },{ a: 59n },{ a: 60n },{ a: 61n }] }) ? ctx.drop() : ctx.next();
       |        ^
       = hint: fuse fewer stages"
  `);
});

test('lines lead to the part that they stand in', () => {
  const { program } = compileFused([partOf(first, { part: 'second' }), partOf(second, pass, { tcp: pass }, 1)], { name: 'fused' });
  const texts = new Set(program.lines.map(({ text }) => text));
  const alone = (stage: AnyStage) => compileStage(stage).program.lines.map(({ text }) => text);
  expect([...texts]).toEqual(expect.arrayContaining([...new Set([...alone(first), ...alone(second)])]));
});

test('a stage out of an object is no part of another program', () => {
  const object = { ...stageOf('return ctx.next();', { name: 'object' }), object: {} } as unknown as AnyStage;
  expect(refused(partOf(first, { part: 'object' }), partOf(object, pass))).toMatchInlineSnapshot(`
    "stage 'object': the stage comes out of an object, which is a program of its own
      hint: leave it out of fuse()"
  `);
});
