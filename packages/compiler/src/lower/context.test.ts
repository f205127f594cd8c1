import { arrayMap, be16, devmap, hash, mac, struct, u8, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { refusal } from '../fixture.ts';

const Part = struct({ a: u8, b: u32 });
const Wide = struct({ m: mac, q: u64 });
const ports = devmap({ name: 'ports', maxEntries: 4 });
const table = hash({ name: 'table', key: u32, value: Part, maxEntries: 4 });
const scalars = arrayMap({ name: 'scalars', value: u32, maxEntries: 4 });
const uses = { Part, Wide, be16, ports, table, scalars };
const refused = (body: string): string =>
  refusal(`const p = ctx.at(Part, 0); if (!p) return ctx.drop();\n${body}\nreturn ctx.next();`, { uses });

test('places in the packet', () => {
  expect(refused('ctx.at(14, Part);')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': ctx.at takes a schema first
     3 | ctx.at(14, Part);
       | ^^^^^^^^^^^^^^^^
       = hint: declare it with struct({ … }) and pass it through uses"
  `);
  expect(refused('ctx.at(Part);')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': undefined as an offset, expected a number
     3 | ctx.at(Part);
       | ^^^^^^^^^^^^"
  `);
  expect(refused('ctx.at(table, 0);')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': ctx.at takes a schema first
     3 | ctx.at(table, 0);
       | ^^^^^^^^^^^^^^^^
       = hint: declare it with struct({ … }) and pass it through uses"
  `);
  expect(refused('ctx.at(Part, -1);')).toMatchInlineSnapshot(`
    "stage.ts:3:14: stage 'sample': the offset is -1, expected 0..32767
     3 | ctx.at(Part, -1);
       |              ^^"
  `);
  expect(refused('ctx.at(Part, 32768);')).toMatchInlineSnapshot(`
    "stage.ts:3:14: stage 'sample': the offset is 32768, expected 0..32767
     3 | ctx.at(Part, 32768);
       |              ^^^^^"
  `);
  expect(refused('ctx.at(Part, p.b);')).toMatchInlineSnapshot(`
    "stage.ts:3:14: stage 'sample': the offset may be 0..4294967295, expected 0..32767
     3 | ctx.at(Part, p.b);
       |              ^^^
       = hint: mask it: & 0x7fff"
  `);
  expect(refused('ctx.at(Part, 14n);')).toMatchInlineSnapshot(`
    "stage.ts:3:14: stage 'sample': a bigint as an offset, expected a number
     3 | ctx.at(Part, 14n);
       |              ^^^"
  `);
  expect(refused('ctx.at(be16, 12);')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': ctx.at takes a struct or an array, got be16
     3 | ctx.at(be16, 12);
       | ^^^^^^^^^^^^^^^^
       = hint: write struct({ value: be16 })"
  `);
  expect(refused('ctx.offsetOf(p.b);')).toMatchInlineSnapshot(`
    "stage.ts:3:14: stage 'sample': a number where a header is expected
     3 | ctx.offsetOf(p.b);
       |              ^^^"
  `);
  expect(refused('const t = table.lookup(1); if (t) ctx.offsetOf(t);')).toMatchInlineSnapshot(`
    "stage.ts:3:48: stage 'sample': a reference to a struct where a header is expected
     3 | const t = table.lookup(1); if (t) ctx.offsetOf(t);
       |                                                ^"
  `);
  expect(refused('ctx.offsetOf();')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': nothing where a header is expected
     3 | ctx.offsetOf();
       | ^^^^^^^^^^^^^^"
  `);
  expect(refused('ctx.offsetOf(ctx.ipv4());')).toMatchInlineSnapshot(`
    "stage.ts:3:14: stage 'sample': 'ctx.ipv4()' may be undefined here
     3 | ctx.offsetOf(ctx.ipv4());
       |              ^^^^^^^^^^
       = hint: test it first: if (!x) return …"
  `);
});

test('checksums', () => {
  expect(refused('ctx.checksum(5);')).toMatchInlineSnapshot(`
    "stage.ts:3:14: stage 'sample': a number where a header is expected
     3 | ctx.checksum(5);
       |              ^"
  `);
  expect(refused('const t = table.lookup(1); if (t) ctx.checksum(t);')).toMatchInlineSnapshot(`
    "stage.ts:3:48: stage 'sample': a reference to a struct where a header is expected
     3 | const t = table.lookup(1); if (t) ctx.checksum(t);
       |                                                ^"
  `);
  expect(refused('const w = ctx.at(Wide, 0); if (w) ctx.checksum(w, 10);')).toMatchInlineSnapshot(`
    "stage.ts:3:51: stage 'sample': the length is 10, expected a multiple of 4
     3 | const w = ctx.at(Wide, 0); if (w) ctx.checksum(w, 10);
       |                                                   ^^"
  `);
  expect(refused('ctx.checksum(p, p.b);')).toMatchInlineSnapshot(`
    "stage.ts:3:17: stage 'sample': the length may be 0..4294967295, expected 0..1024
     3 | ctx.checksum(p, p.b);
       |                 ^^^
       = hint: pass ip.headerLength, or a constant"
  `);
  expect(refused('ctx.checksum(p, 4n);')).toMatchInlineSnapshot(`
    "stage.ts:3:17: stage 'sample': a bigint as a length, expected a number
     3 | ctx.checksum(p, 4n);
       |                 ^^"
  `);
  expect(refused('ctx.checksumReplace(p.b, 1, 2);')).toMatchInlineSnapshot(`
    "stage.ts:3:21: stage 'sample': the argument may be 0..4294967295, expected 0..65535
     3 | ctx.checksumReplace(p.b, 1, 2);
       |                     ^^^
       = hint: mask it: & 0xffff"
  `);
  expect(refused('ctx.checksumReplace(1, 2);')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': nothing where a number is expected
     3 | ctx.checksumReplace(1, 2);
       | ^^^^^^^^^^^^^^^^^^^^^^^^^"
  `);
  expect(refused('ctx.checksumReplace(1, -2, 3);')).toMatchInlineSnapshot(`
    "stage.ts:3:24: stage 'sample': the argument is -2, expected 0..4294967295
     3 | ctx.checksumReplace(1, -2, 3);
       |                        ^^
       = hint: make it unsigned: x >>> 0"
  `);
});

test('moves and redirects', () => {
  expect(refused('ctx.adjustHead();')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': nothing where a number is expected
     3 | ctx.adjustHead();
       | ^^^^^^^^^^^^^^^^"
  `);
  expect(refused('ctx.adjustHead(p.b);')).toMatchInlineSnapshot(`
    "stage.ts:3:16: stage 'sample': the argument may be 0..4294967295, expected -2147483648..2147483647
     3 | ctx.adjustHead(p.b);
       |                ^^^
       = hint: make it 32 bits: x | 0"
  `);
  expect(refused('ctx.adjustTail(1n);')).toMatchInlineSnapshot(`
    "stage.ts:3:16: stage 'sample': a bigint where a number is expected
     3 | ctx.adjustTail(1n);
       |                ^^"
  `);
  expect(refused('return ctx.redirect();')).toMatchInlineSnapshot(`
    "stage.ts:3:8: stage 'sample': nothing where a number is expected
     3 | return ctx.redirect();
       |        ^^^^^^^^^^^^^^"
  `);
  expect(refused('return ctx.redirect(-1);')).toMatchInlineSnapshot(`
    "stage.ts:3:21: stage 'sample': the argument is -1, expected 0..4294967295
     3 | return ctx.redirect(-1);
       |                     ^^
       = hint: make it unsigned: x >>> 0"
  `);
  expect(refused('return ctx.redirect(ports);')).toMatchInlineSnapshot(`
    "stage.ts:3:8: stage 'sample': nothing where a number is expected
     3 | return ctx.redirect(ports);
       |        ^^^^^^^^^^^^^^^^^^^"
  `);
  expect(refused('return ctx.redirect(ports, -1);')).toMatchInlineSnapshot(`
    "stage.ts:3:28: stage 'sample': the argument is -1, expected 0..4294967295
     3 | return ctx.redirect(ports, -1);
       |                            ^^
       = hint: make it unsigned: x >>> 0"
  `);
  expect(refused('return ctx.redirect(scalars, 1);')).toMatchInlineSnapshot(`
    "stage.ts:3:8: stage 'sample': map 'scalars' is of type array, expected devmap, devmapHash, cpumap or xskmap
     3 | return ctx.redirect(scalars, 1);
       |        ^^^^^^^^^^^^^^^^^^^^^^^^"
  `);
});

test('values of maps', () => {
  expect(refused('const s = scalars.lookup(1); if (s) s += 1;')).toMatchInlineSnapshot(`
    "stage.ts:3:37: stage 'sample': a reference as an operand of +
     3 | const s = scalars.lookup(1); if (s) s += 1;
       |                                     ^^^^^^
       = hint: its content is '.value'"
  `);
  expect(refused('const s = scalars.lookup(1); if (s === 5) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:3:34: stage 'sample': a reference that may be undefined and a number are compared
     3 | const s = scalars.lookup(1); if (s === 5) return ctx.drop();
       |                                  ^^^^^^^
       = hint: its content is '.value'"
  `);
  expect(refused('const s = scalars.lookup(1); if (s) s.count = 1;')).toMatchInlineSnapshot(`
    "stage.ts:3:39: stage 'sample': a reference has no 'count'
     3 | const s = scalars.lookup(1); if (s) s.count = 1;
       |                                       ^^^^^
       = hint: its content is '.value'"
  `);
  expect(refused('const t = table.lookup(1); if (t) t.value = 1;')).toMatchInlineSnapshot(`
    "stage.ts:3:37: stage 'sample': no field 'value'
     3 | const t = table.lookup(1); if (t) t.value = 1;
       |                                     ^^^^^
       = hint: there are: a, b"
  `);
});

test('metadata', () => {
  const reads = { mark: u32 };
  const writes = { flow: Part };
  const meta = (body: string, options = { reads, writes }): string => refusal(`${body}\nreturn ctx.next();`, options);
  expect(meta('ctx.meta.mark = 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:10: stage 'sample': metadata 'mark' is only read by this stage
     2 | ctx.meta.mark = 1;
       |          ^^^^
       = hint: declare it: writes: { mark: … }"
  `);
  expect(meta('ctx.meta.mark += 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:10: stage 'sample': metadata 'mark' is only read by this stage
     2 | ctx.meta.mark += 1;
       |          ^^^^
       = hint: declare it: writes: { mark: … }"
  `);
  expect(meta('const x = ctx.meta.marc;')).toMatchInlineSnapshot(`
    "stage.ts:2:20: stage 'sample': metadata 'marc' is not declared
     2 | const x = ctx.meta.marc;
       |                    ^^^^
       = hint: declared: mark, flow"
  `);
  expect(meta('ctx.meta.flo = 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:10: stage 'sample': metadata 'flo' is not declared
     2 | ctx.meta.flo = 1;
       |          ^^^
       = hint: declared: mark, flow"
  `);
  expect(meta('ctx.meta.flow = 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:17: stage 'sample': a number where a struct is stored
     2 | ctx.meta.flow = 1;
       |                 ^"
  `);
  expect(meta('const x = ctx.meta.toString;')).toMatchInlineSnapshot(`
    "stage.ts:2:20: stage 'sample': metadata 'toString' is not declared
     2 | const x = ctx.meta.toString;
       |                    ^^^^^^^^
       = hint: declared: mark, flow"
  `);
  expect(meta('const x = ctx.meta.mark;', { reads: {}, writes: {} } as never)).toMatchInlineSnapshot(`
    "stage.ts:2:20: stage 'sample': metadata 'mark' is not declared
     2 | const x = ctx.meta.mark;
       |                    ^^^^
       = hint: declare it: reads: { … } or writes: { … }"
  `);
  expect(meta('ctx.meta = 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:1: stage 'sample': ctx.meta cannot be assigned to
     2 | ctx.meta = 1;
       | ^^^^^^^^"
  `);
  expect(meta('if (ctx.meta) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:2:5: stage 'sample': ctx.meta as a condition
     2 | if (ctx.meta) return ctx.drop();
       |     ^^^^^^^^"
  `);
});
