import { disassemble } from '@tailrace/bpf';
import { array, be32, bool, events, hash, mac, ringBuffer, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { compileStage } from '../compile.ts';
import { refusal, stageOf } from '../fixture.ts';

const Seen = struct({ at: u64, saddr: be32, length: u16, kind: u8 });
const ring = ringBuffer({ name: 'ring', value: Seen, bytes: 4096 });
const seen = events({ name: 'seen', value: Seen });
const words = ringBuffer({ name: 'words', value: u32, bytes: 4096 });
const wide = ringBuffer({ name: 'wide', value: struct({ kind: u8, mac, on: bool, list: array(u16, 3) }), bytes: 4096 });
const table = hash({ name: 'table', key: u32, value: Seen, maxEntries: 8 });
const Ports = struct({ source: be32, length: u16 });
const uses = { Ports, ring, seen, words, wide, table };

const code = (body: string): string => disassemble(compileStage(stageOf(body, { uses })).program.instructions);

test('fields go into the record itself, padding as zeros', () => {
  expect(
    code(`const ports = ctx.at(Ports, 34);
if (!ports) return ctx.pass();
ring.output({ at: 7n, saddr: ports.source, length: ports.length, kind: 3 });
return ctx.drop();`),
  ).toMatchInlineSnapshot(`
    "0: r0 = *(u32 *)(r1 +0)
    1: r2 = *(u32 *)(r1 +4)
    2: r1 = r0
    3: r1 += 42
    4: if r1 > r2 goto pc+17
    5: r6 = *(u32 *)(r0 +34)
    6: r7 = *(u16 *)(r0 +38)
    7: r1 = map[fd:0]
    9: r2 = 16
    10: r3 = 0
    11: call bpf_ringbuf_reserve#131
    12: if r0 == 0x0 goto pc+7
    13: *(u64 *)(r0 +0) = 7
    14: *(u32 *)(r0 +8) = r6
    15: *(u16 *)(r0 +12) = r7
    16: *(u16 *)(r0 +14) = 3
    17: r1 = r0
    18: r2 = 0
    19: call bpf_ringbuf_submit#132
    20: r0 = 1
    21: exit
    22: r0 = 2
    23: exit"
  `);
});

test('a loss is counted where the ring is full', () => {
  expect(code('seen.send({ at: 1n, saddr: 2, length: 3, kind: 4 }); return ctx.drop();')).toMatchInlineSnapshot(`
    "0: r1 = map[fd:0]
    2: r2 = 16
    3: r3 = 0
    4: call bpf_ringbuf_reserve#131
    5: if r0 == 0x0 goto pc+8
    6: *(u64 *)(r0 +0) = 1
    7: *(u32 *)(r0 +8) = 33554432
    8: *(u32 *)(r0 +12) = 262147
    9: r1 = r0
    10: r2 = 0
    11: call bpf_ringbuf_submit#132
    12: r0 = 1
    13: exit
    14: *(u32 *)(r10 -8) = 0
    15: r1 = map[fd:0]
    17: r2 = r10
    18: r2 += -8
    19: call bpf_map_lookup_elem#1
    20: if r0 == 0x0 goto pc-9
    21: r1 = *(u64 *)(r0 +0)
    22: r1 += 1
    23: *(u64 *)(r0 +0) = r1
    24: goto pc-13"
  `);
});

test('scalars and what lies elsewhere are written as they are', () => {
  expect(code('return words.output(5) ? ctx.drop() : ctx.pass();')).toMatchInlineSnapshot(`
    "0: r1 = map[fd:0]
    2: r2 = 4
    3: r3 = 0
    4: call bpf_ringbuf_reserve#131
    5: if r0 == 0x0 goto pc+6
    6: *(u32 *)(r0 +0) = 5
    7: r1 = r0
    8: r2 = 0
    9: call bpf_ringbuf_submit#132
    10: r0 = 1
    11: exit
    12: r0 = 2
    13: exit"
  `);
  expect(
    code(`const known = table.lookup(1);
if (known && ring.output(known)) return ctx.drop();
return wide.output({ kind: 1, mac: 2, on: ctx.length > 9, list: [1, 2, 3] }) ? ctx.drop() : ctx.pass();`),
  ).toMatchInlineSnapshot(`
    "0: r6 = r1
    1: *(u32 *)(r10 -8) = 1
    2: r1 = map[fd:0]
    4: r2 = r10
    5: r2 += -8
    6: call bpf_map_lookup_elem#1
    7: r7 = r0
    8: if r7 == 0x0 goto pc+15
    9: r1 = map[fd:0]
    11: r2 = 16
    12: r3 = 0
    13: call bpf_ringbuf_reserve#131
    14: if r0 == 0x0 goto pc+9
    15: r1 = *(u64 *)(r7 +0)
    16: *(u64 *)(r0 +0) = r1
    17: r1 = *(u64 *)(r7 +8)
    18: *(u64 *)(r0 +8) = r1
    19: r1 = r0
    20: r2 = 0
    21: call bpf_ringbuf_submit#132
    22: r0 = 1
    23: exit
    24: r1 = r6
    25: call bpf_xdp_get_buff_len#188
    26: if r0 <= 0x9 goto pc+16
    27: r6 = 1
    28: r1 = map[fd:0]
    30: r2 = 16
    31: r3 = 0
    32: call bpf_ringbuf_reserve#131
    33: if r0 == 0x0 goto pc+11
    34: *(u32 *)(r0 +0) = 1
    35: *(u32 *)(r0 +4) = 33554432
    36: *(u16 *)(r0 +8) = r6
    37: *(u32 *)(r0 +10) = 131073
    38: *(u16 *)(r0 +14) = 3
    39: r1 = r0
    40: r2 = 0
    41: call bpf_ringbuf_submit#132
    42: goto pc-21
    43: r6 = 0
    44: goto pc-17
    45: r0 = 2
    46: exit"
  `);
});

test('misuse is told', () => {
  const misuses = [
    'ring.output();',
    'ring.output(5);',
    'ring.output({ at: 1n, saddr: 2, length: 3 });',
    'ring.output({ at: 1, saddr: 2, length: 3, kind: 4 });',
    'ring.output({ at: 1n, saddr: 2, length: 3, kind: 4, more: 5 });',
    'ring.output(table.lookup(1));',
    'words.output(1n);',
    'ring.lookup(0);',
    'ring.submit({ at: 1n });',
    'table.output({ at: 1n, saddr: 2, length: 3, kind: 4 });',
    'seen.output({ at: 1n, saddr: 2, length: 3, kind: 4 });',
    'ctx.redirect(ring, 1);',
  ];
  const told = misuses.map((body) => refusal(`${body}\nreturn ctx.drop();`, { uses }));
  expect(told.join('\n')).toMatchInlineSnapshot(`
    "stage.ts:2:1: stage 'sample': output() needs a value
     2 | ring.output();
       | ^^^^^^^^^^^^^
    stage.ts:2:13: stage 'sample': a number where a struct is stored
     2 | ring.output(5);
       |             ^
    stage.ts:2:13: stage 'sample': field 'kind' is missing
     2 | ring.output({ at: 1n, saddr: 2, length: 3 });
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: fields: at, saddr, length, kind
    stage.ts:2:13: stage 'sample': a number where a bigint is stored
     2 | ring.output({ at: 1, saddr: 2, length: 3, kind: 4 });
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write 1n, or BigInt(x)
    stage.ts:2:13: stage 'sample': no field 'more'
     2 | ring.output({ at: 1n, saddr: 2, length: 3, kind: 4, more: 5 });
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: fields: at, saddr, length, kind
    stage.ts:2:13: stage 'sample': 'table.lookup(1)' may be undefined here
     2 | ring.output(table.lookup(1));
       |             ^^^^^^^^^^^^^^^
       = hint: test it first: if (!x) return …
    stage.ts:2:14: stage 'sample': a bigint where a number is stored
     2 | words.output(1n);
       |              ^^
       = hint: use Number(x)
    stage.ts:2:1: stage 'sample': ringBuffer 'ring' has no lookup()
     2 | ring.lookup(0);
       | ^^^^^^^^^^^^^^
       = hint: programs only write to it: output(value)
    stage.ts:2:6: stage 'sample': map 'ring' has no method 'submit'
     2 | ring.submit({ at: 1n });
       |      ^^^^^^
       = hint: there are: output
    stage.ts:2:1: stage 'sample': hash 'table' has no output()
     2 | table.output({ at: 1n, saddr: 2, length: 3, kind: 4 });
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: a map of this kind has keys: lookup(key), update(key, value), delete(key)
    stage.ts:2:6: stage 'sample': 'seen' has no 'output'
     2 | seen.output({ at: 1n, saddr: 2, length: 3, kind: 4 });
       |      ^^^^^^
       = hint: there are: send
    stage.ts:2:1: stage 'sample': map 'ring' is of type ringBuffer, expected devmap, devmapHash, cpumap or xskmap
     2 | ctx.redirect(ring, 1);
       | ^^^^^^^^^^^^^^^^^^^^^"
  `);
});
