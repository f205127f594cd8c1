/** The code that `ctx.copy` becomes, and what is refused. */
import { disassemble } from '@tailrace/bpf';
import { array, arrayMap, type Hook, struct, u8, u32 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { compileStage } from '../compile.ts';
import { refusal, stageOf } from '../fixture.ts';

const uses = { heads: arrayMap({ name: 'heads', value: struct({ have: u32, bytes: array(u8, 96) }), maxEntries: 4 }), pair: array(u8, 2) };
const inHead = (body: string): string => `const head = heads.lookup(1); if (!head) return ctx.drop();\n${body}\nreturn ctx.next();`;
const code = (body: string): string => disassemble(compileStage(stageOf(inHead(body), { hook: 'skSkb', uses })).program.instructions);
const refused = (body: string, hook: Hook = 'skSkb'): string => refusal(stageOf(inHead(body), { hook, uses }));

test('a place and a number that are known when it runs: what the verifier asks to know of them', () => {
  expect(
    code(
      'const n = Math.min(ctx.length, 64); if (n === 0) return ctx.drop(); if (!ctx.copy(3, n, head.bytes, head.have & 31)) return ctx.drop();',
    ),
  ).toMatchInlineSnapshot(`
    "0: r6 = r1
    1: *(u32 *)(r10 -8) = 1
    2: r1 = map[fd:0]
    4: r2 = r10
    5: r2 += -8
    6: call bpf_map_lookup_elem#1
    7: if r0 == 0x0 goto pc+19
    8: r4 = *(u32 *)(r6 +0)
    9: if r4 >= 0x40 goto pc+15
    10: if r4 == 0x0 goto pc+16
    11: r1 = *(u32 *)(r0 +0)
    12: w1 &= 31
    13: r3 = r0
    14: r3 += 4
    15: r3 += r1
    16: r4 += -1
    17: w4 &= 63
    18: r4 += 1
    19: r1 = r6
    20: r2 = 3
    21: call bpf_skb_load_bytes#26
    22: if r0 != 0x0 goto pc+4
    23: r0 = 1
    24: exit
    25: r4 = 64
    26: goto pc-16
    27: r0 = 0
    28: exit"
  `);
});

test('constants', () => {
  expect(code('ctx.copy(0, 5, head.bytes);')).toMatchInlineSnapshot(`
    "0: r6 = r1
    1: *(u32 *)(r10 -8) = 1
    2: r1 = map[fd:0]
    4: r2 = r10
    5: r2 += -8
    6: call bpf_map_lookup_elem#1
    7: if r0 == 0x0 goto pc+8
    8: r3 = r0
    9: r3 += 4
    10: r1 = r6
    11: r2 = 0
    12: r4 = 5
    13: call bpf_skb_load_bytes#26
    14: r0 = 1
    15: exit
    16: r0 = 0
    17: exit"
  `);
});

describe('refused', () => {
  test('what may not fit', () => {
    expect(refused('ctx.copy(0, 64, head.bytes, head.have & 63);')).toMatchInlineSnapshot(`
      "stage.ts:3:1: stage 'sample': up to 64 bytes from item 63 on, of 96
       3 | ctx.copy(0, 64, head.bytes, head.have & 63);
         | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: mask the place and the length, or make the array larger"
    `);
    expect(refused('ctx.copy(0, Math.min(ctx.length, 33) + 1, head.bytes, 33);')).toMatchInlineSnapshot(`
      "stage.ts:3:1: stage 'sample': up to 64 bytes from item 33 on, of 96
       3 | ctx.copy(0, Math.min(ctx.length, 33) + 1, head.bytes, 33);
         | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: mask the place and the length, or make the array larger"
    `);
    expect(refused('ctx.copy(0, head.have & 31, head.bytes);')).toMatchInlineSnapshot(`
      "stage.ts:3:13: stage 'sample': the number of bytes may be 0
       3 | ctx.copy(0, head.have & 31, head.bytes);
         |             ^^^^^^^^^^^^^^
         = hint: test it first: if (length === 0) return …"
    `);
  });

  test('what is no array of bytes in a map', () => {
    expect(refused('ctx.copy(0, 2, head);')).toMatchInlineSnapshot(`
      "stage.ts:3:16: stage 'sample': a reference to a struct where an array of bytes in a map's value is expected
       3 | ctx.copy(0, 2, head);
         |                ^^^^
         = hint: declare it with array(u8, n) and look the value up"
    `);
    expect(refused('const two = ctx.at(pair, 0); if (two) ctx.copy(0, 2, two);')).toMatchInlineSnapshot(`
      "stage.ts:3:54: stage 'sample': a reference to an array where an array of bytes in a map's value is expected
       3 | const two = ctx.at(pair, 0); if (two) ctx.copy(0, 2, two);
         |                                                      ^^^
         = hint: declare it with array(u8, n) and look the value up"
    `);
  });

  test('other hooks', () => {
    expect(refused('ctx.copy(0, 2, head.bytes);', 'skMsg')).toMatchInlineSnapshot(`
      "stage.ts:3:5: stage 'sample': ctx.copy is not there at skMsg
       3 | ctx.copy(0, 2, head.bytes);
         |     ^^^^
         = hint: read in place with ctx.at(schema, offset)"
    `);
  });
});
