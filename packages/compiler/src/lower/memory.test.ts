import {
  array,
  arrayMap,
  be32,
  bits,
  bool,
  devmap,
  equal,
  flag,
  hash,
  hashOf,
  ipv4Prefix,
  lpmTrie,
  mac,
  packed,
  perCpuArray,
  programArray,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { refusal } from '../fixture.ts';

const Pair = struct({ a: u8, b: u32 });
const Other = struct({ b: u32, a: u8 });
const F = packed({ b: u8, w: u16, d: u32, q: u64, list: array(u8, 4), pair: Pair }, { low: bits('d', 0, 3), odd: flag('b', 0) });
const Value = struct({
  n: u64,
  d: u32,
  w: u16,
  b: u8,
  be: be32,
  on: bool,
  m: mac,
  pair: Pair,
  list: array(u32, 4),
  odd: packed({ x: u8, d: u32 }),
});
const shared = arrayMap({ name: 'shared', value: Value, maxEntries: 4 });
const one = arrayMap({ name: 'one', value: Value, maxEntries: 1 });
const own = perCpuArray({ name: 'own', value: Value, maxEntries: 1 });
const table = hash({ name: 'table', key: Pair, value: u64, maxEntries: 10 });
const trie = lpmTrie({ name: 'trie', key: ipv4Prefix, value: u32, maxEntries: 10 });
const ports = devmap({ name: 'ports', maxEntries: 4 });
const slots = programArray({ name: 'slots', maxEntries: 4 });
const uses = { F, Other, shared, one, own, table, trie, ports, slots, hashed: hashOf(Pair), same: equal(Pair), constant: { a: 1, c: 2 } };
const refused = (body: string): string =>
  refusal(
    `const f = ctx.at(F, 0); const s = shared.lookup(1); const o = own.lookup(0);\nif (!f || !s || !o) return ctx.drop();\n${body}\nreturn ctx.next();`,
    { uses },
  );

describe('maps that other CPUs write too', () => {
  test('are added to, and nothing else is done in place', () => {
    expect(refused('s.n *= 2n;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and *= is not atomic
       4 | s.n *= 2n;
         | ^^^^^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
    expect(refused('s.d |= 1;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and |= is not atomic
       4 | s.d |= 1;
         | ^^^^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
    expect(refused('s.w += 1;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and 16 bits cannot be added to atomically
       4 | s.w += 1;
         | ^^^^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
    expect(refused('s.b++;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and 8 bits cannot be added to atomically
       4 | s.b++;
         | ^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
    expect(refused('s.be += 1;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and big-endian fields cannot be added to atomically
       4 | s.be += 1;
         | ^^^^^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
    expect(refused('s.m -= 1;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and 48 bits cannot be added to atomically
       4 | s.m -= 1;
         | ^^^^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
    expect(refused('s.odd.d += 1;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and fields off their alignment cannot be added to atomically
       4 | s.odd.d += 1;
         | ^^^^^^^^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
    expect(refused('s.list[f.b & 3] ^= 1;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and ^= is not atomic
       4 | s.list[f.b & 3] ^= 1;
         | ^^^^^^^^^^^^^^^^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
    expect(refused('s.on += 1;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': a boolean is no number
       4 | s.on += 1;
         | ^^^^"
    `);
    expect(refused('one.lookup(0).n <<= 1n;')).toMatchInlineSnapshot(`
      "stage.ts:4:1: stage 'sample': other CPUs write this map too, and <<= is not atomic
       4 | one.lookup(0).n <<= 1n;
         | ^^^^^^^^^^^^^^^^^^^^^^
         = hint: use += or -= on a u32 or u64, a per-CPU map, or read, compute and assign"
    `);
  });

  test('do not say what they were added up to', () => {
    expect(refused('const x = s.n++; f.q = x;')).toMatchInlineSnapshot(`
      "stage.ts:4:24: stage 'sample': the result of an atomic addition is not known
       4 | const x = s.n++; f.q = x;
         |                        ^
         = hint: write the addition as a statement of its own"
    `);
    expect(refused('const x = (s.n += 1n) + 1n;')).toMatchInlineSnapshot(`
      "stage.ts:4:11: stage 'sample': the result of an atomic addition is not known
       4 | const x = (s.n += 1n) + 1n;
         |           ^^^^^^^^^^^^^^^^
         = hint: write the addition as a statement of its own"
    `);
    expect(refused('if (++s.d > 5) return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:4:5: stage 'sample': the result of an atomic addition is not known
       4 | if (++s.d > 5) return ctx.drop();
         |     ^^^^^
         = hint: write the addition as a statement of its own"
    `);
    expect(refused('f.d = s.d += 1;')).toMatchInlineSnapshot(`
      "stage.ts:4:7: stage 'sample': the result of an atomic addition is not known
       4 | f.d = s.d += 1;
         |       ^^^^^^^^
         = hint: write the addition as a statement of its own"
    `);
  });
});

test('indexes', () => {
  expect(refused('const x = f.list[f.b];')).toMatchInlineSnapshot(`
    "stage.ts:4:18: stage 'sample': the index may be 0..255; the array has 4 elements
     4 | const x = f.list[f.b];
       |                  ^^^
       = hint: compare it with 4 first, or mask it"
  `);
  expect(refused('const x = f.list[4];')).toMatchInlineSnapshot(`
    "stage.ts:4:18: stage 'sample': the index is 4; the array has 4 elements
     4 | const x = f.list[4];
       |                  ^
       = hint: compare it with 4 first, or mask it"
  `);
  expect(refused('const x = f.list[f.b - 1];')).toMatchInlineSnapshot(`
    "stage.ts:4:18: stage 'sample': the index may be -1..254; the array has 4 elements
     4 | const x = f.list[f.b - 1];
       |                  ^^^^^^^
       = hint: compare it with 4 first, or mask it"
  `);
  expect(refused('const x = f.list[f.q];')).toMatchInlineSnapshot(`
    "stage.ts:4:18: stage 'sample': a bigint as an index
     4 | const x = f.list[f.q];
       |                  ^^^
       = hint: use Number(x)"
  `);
  expect(refused('f.list[f.w & 7] = 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:8: stage 'sample': the index may be 0..7; the array has 4 elements
     4 | f.list[f.w & 7] = 1;
       |        ^^^^^^^
       = hint: compare it with 4 first, or mask it"
  `);
  expect(refused('if (s.b < 4) f.b = s.list[s.b];')).toMatchInlineSnapshot(`
    "stage.ts:4:27: stage 'sample': the index may be 0..255; the array has 4 elements
     4 | if (s.b < 4) f.b = s.list[s.b];
       |                           ^^^
       = hint: keep it in a const and compare that with 4, or mask it"
  `);
  expect(refused('const x = f.pair[0];')).toMatchInlineSnapshot(`
    "stage.ts:4:18: stage 'sample': only arrays have elements
     4 | const x = f.pair[0];
       |                  ^"
  `);
  expect(refused('const x = f["low" + "er"];')).toMatchInlineSnapshot(`
    "stage.ts:4:13: stage 'sample': a string as an operand of +
     4 | const x = f["low" + "er"];
       |             ^^^^^^^^^^^^"
  `);
  expect(refused('for (let i = 0; i <= 4; i++) f.list[i] = 0;')).toMatchInlineSnapshot(`
    "stage.ts:4:37: stage 'sample': the index is 4; the array has 4 elements
     4 | for (let i = 0; i <= 4; i++) f.list[i] = 0;
       |                                     ^
       = hint: compare it with 4 first, or mask it"
  `);
});

test('views are only read', () => {
  expect(refused('f.low = 3;')).toMatchInlineSnapshot(`
    "stage.ts:4:3: stage 'sample': 'low' is a view and cannot be written
     4 | f.low = 3;
       |   ^^^
       = hint: write the field 'd'"
  `);
  expect(refused('f.odd = true;')).toMatchInlineSnapshot(`
    "stage.ts:4:3: stage 'sample': 'odd' is a view and cannot be written
     4 | f.odd = true;
       |   ^^^
       = hint: write the field 'b'"
  `);
  expect(refused('f.low += 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:3: stage 'sample': 'low' is a view and cannot be written
     4 | f.low += 1;
       |   ^^^
       = hint: write the field 'd'"
  `);
});

test('what is stored', () => {
  expect(refused('f.b = true;')).toMatchInlineSnapshot(`
    "stage.ts:4:7: stage 'sample': a boolean where a number is stored
     4 | f.b = true;
       |       ^^^^"
  `);
  expect(refused('s.on = 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:8: stage 'sample': a number where a boolean is stored
     4 | s.on = 1;
       |        ^"
  `);
  expect(refused('f.pair = 5;')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': a number where a struct is stored
     4 | f.pair = 5;
       |          ^"
  `);
  expect(refused('f.list = 5;')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': a number where an array is stored
     4 | f.list = 5;
       |          ^"
  `);
  expect(refused('f.list = [1, 2, 3];')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': an array of 3 where one of 4 is stored
     4 | f.list = [1, 2, 3];
       |          ^^^^^^^^^"
  `);
  expect(refused('f.pair = { a: 1 };')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': field 'b' is missing
     4 | f.pair = { a: 1 };
       |          ^^^^^^^^
       = hint: fields: a, b"
  `);
  expect(refused('f.pair = { a: 1, b: 2, c: 3 };')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': no field 'c'
     4 | f.pair = { a: 1, b: 2, c: 3 };
       |          ^^^^^^^^^^^^^^^^^^^^
       = hint: fields: a, b"
  `);
  expect(refused('f.pair = { a: 1, b: 2, toString: 3 };')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': no field 'toString'
     4 | f.pair = { a: 1, b: 2, toString: 3 };
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: fields: a, b"
  `);
  expect(refused('f.pair = constant;')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': no field 'c'
     4 | f.pair = constant;
       |          ^^^^^^^^
       = hint: fields: a, b"
  `);
  expect(refused('f.pair = { a: 1n, b: 2 };')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': a bigint where a number is stored
     4 | f.pair = { a: 1n, b: 2 };
       |          ^^^^^^^^^^^^^^^
       = hint: use Number(x)"
  `);
  expect(refused('const p = ctx.at(Other, 0); if (p) f.pair = p;')).toMatchInlineSnapshot(`
    "stage.ts:4:45: stage 'sample': a struct of another layout
     4 | const p = ctx.at(Other, 0); if (p) f.pair = p;
       |                                             ^
       = hint: copy the fields one by one"
  `);
  expect(refused('f.pair = ctx.at(Other, 0);')).toMatchInlineSnapshot(`
    "stage.ts:4:10: stage 'sample': 'ctx.at(Other, 0)' may be undefined here
     4 | f.pair = ctx.at(Other, 0);
       |          ^^^^^^^^^^^^^^^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('f.b = undefined;')).toMatchInlineSnapshot(`
    "stage.ts:4:7: stage 'sample': undefined where a number is stored
     4 | f.b = undefined;
       |       ^^^^^^^^^"
  `);
  expect(refused('f.b = "a";')).toMatchInlineSnapshot(`
    "stage.ts:4:7: stage 'sample': a string where a number is stored
     4 | f.b = "a";
       |       ^^^"
  `);
});

test('keys and values', () => {
  expect(refused('table.lookup();')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': lookup() needs a key
     4 | table.lookup();
       | ^^^^^^^^^^^^^^"
  `);
  expect(refused('table.lookup(5);')).toMatchInlineSnapshot(`
    "stage.ts:4:14: stage 'sample': a number where a struct is stored
     4 | table.lookup(5);
       |              ^"
  `);
  expect(refused('table.lookup({ a: 1 });')).toMatchInlineSnapshot(`
    "stage.ts:4:14: stage 'sample': field 'b' is missing
     4 | table.lookup({ a: 1 });
       |              ^^^^^^^^
       = hint: fields: a, b"
  `);
  expect(refused('table.lookup({ a: 1, b: 2n });')).toMatchInlineSnapshot(`
    "stage.ts:4:14: stage 'sample': a bigint where a number is stored
     4 | table.lookup({ a: 1, b: 2n });
       |              ^^^^^^^^^^^^^^^
       = hint: use Number(x)"
  `);
  expect(refused('table.update({ a: 1, b: 2 });')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': update() needs a value
     4 | table.update({ a: 1, b: 2 });
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^"
  `);
  expect(refused('table.update({ a: 1, b: 2 }, 1);')).toMatchInlineSnapshot(`
    "stage.ts:4:30: stage 'sample': a number where a bigint is stored
     4 | table.update({ a: 1, b: 2 }, 1);
       |                              ^
       = hint: write 1n, or BigInt(x)"
  `);
  expect(refused("table.update({ a: 1, b: 2 }, 1n, 'always');")).toMatchInlineSnapshot(`
    "stage.ts:4:34: stage 'sample': the flag must be 'any', 'noexist' or 'exist'
     4 | table.update({ a: 1, b: 2 }, 1n, 'always');
       |                                  ^^^^^^^^"
  `);
  expect(refused("table.update({ a: 1, b: 2 }, 1n, 'toString');")).toMatchInlineSnapshot(`
    "stage.ts:4:34: stage 'sample': the flag must be 'any', 'noexist' or 'exist'
     4 | table.update({ a: 1, b: 2 }, 1n, 'toString');
       |                                  ^^^^^^^^^^"
  `);
  expect(refused('trie.lookup(f.d);')).toMatchInlineSnapshot(`
    "stage.ts:4:13: stage 'sample': a number where a struct is stored
     4 | trie.lookup(f.d);
       |             ^^^"
  `);
  expect(refused('shared.lookup(f.q);')).toMatchInlineSnapshot(`
    "stage.ts:4:15: stage 'sample': a bigint where a number is expected
     4 | shared.lookup(f.q);
       |               ^^^"
  `);
  expect(refused('shared.lookup(f.b - 1);')).toMatchInlineSnapshot(`
    "stage.ts:4:15: stage 'sample': the argument may be -1..254, expected 0..4294967295
     4 | shared.lookup(f.b - 1);
       |               ^^^^^^^
       = hint: make it unsigned: x >>> 0"
  `);
  expect(refused('shared.update(0, 1);')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': array 'shared' has no update()
     4 | shared.update(0, 1);
       | ^^^^^^^^^^^^^^^^^^^
       = hint: assign to the reference that lookup() gives"
  `);
  expect(refused('own.delete(0);')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': perCpuArray 'own' has no delete()
     4 | own.delete(0);
       | ^^^^^^^^^^^^^
       = hint: assign to the reference that lookup() gives"
  `);
  expect(refused('ports.lookup(0);')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': devmap 'ports' has no lookup()
     4 | ports.lookup(0);
       | ^^^^^^^^^^^^^^^
       = hint: pass it to ctx.redirect(map, key)"
  `);
  expect(refused('slots.lookup(0);')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': programArray 'slots' has no lookup()
     4 | slots.lookup(0);
       | ^^^^^^^^^^^^^^^"
  `);
  expect(refused('hashed();')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': the hash needs a key
     4 | hashed();
       | ^^^^^^^^"
  `);
  expect(refused('hashed(5);')).toMatchInlineSnapshot(`
    "stage.ts:4:8: stage 'sample': a number where a struct is stored
     4 | hashed(5);
       |        ^"
  `);
  expect(refused('same(f.pair);')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': two values are compared
     4 | same(f.pair);
       | ^^^^^^^^^^^^"
  `);
  expect(refused('const p = f.pair; ctx.adjustHead(4); table.lookup(p);')).toMatchInlineSnapshot(`
    "stage.ts:4:51: stage 'sample': 'p' is from before ctx.adjustHead(), which moved the packet
     4 | const p = f.pair; ctx.adjustHead(4); table.lookup(p);
       |                                                   ^
       = hint: ask ctx for the header again"
  `);
});
