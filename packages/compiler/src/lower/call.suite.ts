/** Fns, hashes, comparisons and constants mean on an engine what they mean in JavaScript. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import {
  type AnyFn,
  aligned,
  array,
  arrayMap,
  be16,
  be32,
  be64,
  bool,
  defineStructure,
  equal,
  fn,
  hash,
  hashOf,
  i32,
  mac,
  nothing,
  packed,
  perCpuArray,
  ref,
  type Schema,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import { packet } from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { agree, stageOf } from '../fixture.ts';

const byte = fc.oneof(fc.constantFrom(0, 1, 2, 3, 255), fc.nat(255));
const frames = fc.sample(fc.array(byte, { minLength: 80, maxLength: 80 }), { numRuns: 25, seed: 9 }).map((b) => Uint8Array.from(b));
/** Frames whose two halves are the same but for a byte here and there. */
const twins = frames.flatMap((frame, i) => {
  const twin = frame.slice();
  twin.set(frame.subarray(0, 40), 40);
  const other = twin.slice();
  other[40 + (i % 40)] = (other[40 + (i % 40)] ?? 0) ^ 1;
  return [twin, other];
});

const Fields = packed({ b: u8, w: u16, d: u32, q: u64, c: u8, list: array(u8, 8) });

/** The cases, on an engine. */
export function callSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  describe('fns', () => {
    const add = fn([u32, u32], u32, (a, b) => (a + b) >>> 0);
    const twice = fn([u32], u32, { add }, (x, { add }) => add(x, x));
    const clamp = fn([u32, u32], u32, (x, top) => {
      if (x > top) return top;
      if (x === 3) {
        x = 7;
      }
      return x;
    });
    const find = fn([array(u8, 8), u8], u32, (list, wanted) => {
      for (let i = 0; i < 8; i++) if (list[i] === wanted) return i;
      return 99;
    });
    const counts = hash({ name: 'counts', key: u32, value: struct({ n: u32, last: u8 }), maxEntries: 100 });
    const entry = fn([u32], ref(struct({ n: u32, last: u8 })), { counts }, (key, { counts }) => {
      const known = counts.lookup(key);
      if (known) return known;
      counts.update(key, { n: 0, last: 0 });
      return counts.lookup(key);
    });
    const mark = fn([u32, u8], nothing, { entry }, (key, last, { entry }) => {
      const e = entry(key);
      if (!e) return;
      e.n += 1;
      e.last = last;
    });
    const mixBig = fn([u64], u64, (x) => {
      let h = x ^ (x >> 33n);
      h = BigInt.asUintN(64, h * 0xff51afd7ed558ccdn);
      h ^= h >> 33n;
      return h;
    });
    const deep = fn([struct({ a: u8, inner: struct({ b: u32 }) })], u32, (s) => s.a + s.inner.b);
    const change = fn([struct({ a: u8, b: u32 })], nothing, (s) => {
      s.a = 5;
      s.b += 1;
    });
    const Pair = struct({ a: u8, b: u32 });
    const both = fn([Pair], u32, ({ a, b: other }) => (a + other) >>> 0);
    const uses = { both, Pair, one: { a: 1, b: 2 }, add, twice, clamp, find, counts, entry, mark, mixBig, deep, change };
    const bodies: Readonly<Record<string, string>> = {
      'of numbers, inside each other': 'r = add(f.d, twice(f.b)) & 0xffff; r += twice(twice(f.c));',
      'that return early': 'r = clamp(f.b, f.c) + clamp(3, 100) * 1000 + (clamp(f.d, 5) === 5 ? 100000 : 0);',
      'with a loop': 'r = find(f.list, f.b) + find(f.list, f.c) * 100;',
      'that return references': 'const e = entry(f.b & 3); if (!e) return ctx.drop(); e.last = f.c; e.n += 2; r = entry(f.b & 3) ? 1 : 2;',
      'for their effect': 'mark(f.b & 7, f.c); mark(f.c & 7, f.b); const e = counts.lookup(f.b & 7); if (e) r = e.n + e.last;',
      'of bigints': 'r = Number(mixBig(f.q) & 0xffffn) + Number(mixBig(5n) & 0xffn);',
      'of literals': 'r = deep({ a: f.b, inner: { b: f.w } }); const s = { a: f.b, b: 2 }; change(s); r += s.a * 10 + s.b;',
      'that take objects apart':
        'r = both({ a: f.b, b: 7 }) + both(one) * 3; const p = ctx.at(Pair, 3); if (p) r += both(p) & 0xffff; const { a: x, b: y } = one; r += x * y;',
      'in conditions': 'if (find(f.list, 255) === 99 && clamp(f.b, 9) < 9 || !add(f.c, 0)) r = 1; r += add(f.b, 1) ? 2 : 4;',
    };
    test.each(Object.entries(bodies))('%s', async (_name, body) => {
      const text = `const f = ctx.at(Fields, 0); if (!f) return ctx.drop(); let r = 0;\n${body}\nctx.meta.r = r; return ctx.next();`;
      const used = Object.fromEntries(Object.entries(uses).filter(([name]) => new RegExp(`\\b${name}\\b`).test(body)));
      await agree(testing, engine, stageOf(text, { uses: { Fields, ...used }, writes: { r: u32 } }), frames);
    });
  });

  describe('hashOf and equal', () => {
    const schemas: Readonly<Record<string, Schema<unknown>>> = {
      u8,
      u64,
      mac,
      pair: struct({ a: u8, b: u32 }),
      'nested with holes': struct({ a: u8, inner: struct({ x: u16, y: u8 }), q: u64, z: u8 }),
      packed: packed({ a: u8, b: u32, c: u64, d: mac, e: be16 }),
      'off its alignment': struct({ n: u32, addr: struct({ hi: aligned(be64, 4), lo: aligned(be64, 4) }) }),
      arrays: struct({ words: array(u16, 3), on: bool, pairs: array(struct({ a: be32, b: u8 }), 2) }),
      'three bytes': packed({ a: u8, b: u8, c: u8 }),
    };
    test.each(Object.entries(schemas))('of %s', async (_name, Schema) => {
      const Whole = struct({ value: Schema });
      const body = `const x = ctx.at(Whole, 0); const y = ctx.at(Whole, 40); if (!x || !y) return ctx.drop();
      ctx.meta.h = hashed(x.value); ctx.meta.same = same(x.value, y.value); if (same(y.value, x.value)) return ctx.exit('same'); return same(x.value, x.value) ? ctx.next() : ctx.abort();`;
      await agree(
        testing,
        engine,
        stageOf(body, { uses: { Whole, hashed: hashOf(Schema), same: equal(Schema) }, writes: { h: u32, same: bool } }),
        twins,
      );
    });

    test('of literals and constants', async () => {
      const Key = struct({ a: u8, b: u32, c: be16, d: mac, l: array(u8, 3) });
      const body = `const f = ctx.at(Fields, 0); if (!f) return ctx.drop();
      const key = { a: f.b, b: f.d, c: f.w, d: f.d * 3, l: [1, f.c, 3] }; ctx.meta.h = hashed(key); key.a = 7; ctx.meta.g = hashed(key) ^ hashed(one);
      ctx.meta.same = same(key, { a: 7, b: f.d, c: f.w, d: f.d * 3, l: [1, f.c, 3] }) && !same(key, one); ctx.meta.k = hashed32(f.b) + hashed32(5) & 0xffff; return ctx.next();`;
      const uses = { Fields, hashed: hashOf(Key), same: equal(Key), hashed32: hashOf(u32), one: { a: 1, b: 2, c: 3, d: 4, l: [5, 6, 7] } };
      await agree(testing, engine, stageOf(body, { uses, writes: { h: u32, g: i32, same: bool, k: u32 } }), frames);
    });

    test('keys as odd as these in maps', async () => {
      const maps = Object.fromEntries(
        Object.values(schemas)
          .slice(3)
          .map((key, i) => [`map${i}`, hash({ name: `map${i}`, key, value: mac, maxEntries: 1000 })]),
      );
      const Whole = Object.fromEntries(
        Object.values(schemas)
          .slice(3)
          .map((value, i) => [`S${i}`, struct({ value })]),
      );
      const lines = Object.keys(maps).map(
        (name, i) =>
          `const s${i} = ctx.at(S${i}, 3); if (s${i}) { const hit = ${name}.lookup(s${i}.value); if (hit) hit.value = hit.value + 1; else ${name}.update(s${i}.value, f.d); }`,
      );
      const text = `const f = ctx.at(Fields, 0); if (!f) return ctx.drop();\n${lines.join('\n')}\nreturn ctx.next();`;
      await agree(testing, engine, stageOf(text, { uses: { Fields, ...maps, ...Whole } }), [...frames, ...frames]);
    });

    test('literals as packed keys', async () => {
      const key = packed({ a: u8, q: u64, w: u16, m: mac, d: be32 });
      const seen = hash({ name: 'seen', key, value: packed({ a: u8, m: mac, n: u64 }), maxEntries: 1000 });
      const text = `const f = ctx.at(Fields, 0); if (!f) return ctx.drop();
      seen.update({ a: f.b, q: f.q, w: f.w, m: f.d * 5, d: f.d }, { a: f.c, m: f.d, n: f.q }); const s = seen.lookup({ a: f.b, q: f.q, w: f.w, m: f.d * 5, d: f.d }); if (!s) return ctx.abort(); s.m = s.m + 1; s.n = s.n * 3n; return ctx.next();`;
      await agree(testing, engine, stageOf(text, { uses: { Fields, seen } }), frames);
    });
  });

  test('structures', async () => {
    const buckets = perCpuArray({ name: 'buckets', value: struct({ keys: array(u32, 4), hits: array(u64, 4) }), maxEntries: 16 });
    const total = arrayMap({ name: 'total', value: u64, maxEntries: 1 });
    const place = hashOf(u32);
    const touch = fn([u32], u32, { buckets, total, place }, (key, { buckets, total, place }) => {
      const bucket = buckets.lookup(place(key) & 15);
      const sum = total.lookup(0);
      if (!bucket || !sum) return 0;
      sum.value += 1n;
      for (let i = 0; i < 4; i++) {
        if (bucket.keys[i] === key || bucket.hits[i] === 0n) {
          bucket.keys[i] = key;
          bucket.hits[i] = (bucket.hits[i] ?? 0n) + 1n;
          return i + 1;
        }
      }
      bucket.keys[0] = key;
      bucket.hits[0] = 1n;
      return 9;
    });
    const table = defineStructure({
      name: 'table',
      maps: { buckets, total },
      fns: { touch, place } as Record<string, AnyFn>,
      handle: () => undefined,
    });
    const text =
      'const f = ctx.at(Fields, 0); if (!f) return ctx.drop(); ctx.meta.r = table.touch(f.b & 31) * 10 + table.touch(f.c & 31); ctx.meta.h = table.place(f.b); return ctx.next();';
    await agree(testing, engine, stageOf(text, { uses: { Fields, table }, writes: { r: u32, h: u32 } }), [...frames, ...frames]);
  });

  test('constants', async () => {
    const constants = {
      limit: 70_000,
      big: 0xffff_ffff_ffff_fff0n,
      on: true,
      off: false,
      negative: -5,
      list: [3, 1, 4, 1, 5],
      rules: [
        { from: 0, to: 9, mask: 0xffn, deny: true },
        { from: 100, to: 200, mask: 1n, deny: false },
      ],
      config: { ttl: 64, nested: { deep: 7 }, label: 'low' },
    };
    const body = `const f = ctx.at(Fields, 0); if (!f) return ctx.drop(); let r = f.d < limit ? 1 : 2; if (f.q > big) r += 4; if (on && !off) r += 8; r += negative + 10 + config.nested.deep * 16;
    for (const x of list) if (f.b === x) r += 1000; for (const { from, to, mask, deny } of rules) if (f.b >= from && f.b <= to && (f.q & mask) !== 0n) { if (deny) return ctx.drop(); r += 10000; }
    for (let i = 0; i < list.length; i++) r += list[i]; const { ttl } = config; r += rules[1].to + rules.length + ttl; ctx.meta.r = r; return config.label === 'low' ? ctx.exit('low') : ctx.next();`;
    await agree(testing, engine, stageOf(body, { uses: { Fields, ...constants }, writes: { r: u32 } }), frames);
  });

  test('labels among constants', async () => {
    const body = `const ip = ctx.ipv4(); if (!ip) return ctx.exit(names.none); for (const { ttl, label } of rules) if (ip.ttl === ttl) return ctx.exit(label); return ip.ttl > 9 ? ctx.exit(high) : ctx.next();`;
    const uses = {
      names: { none: 'not-ipv4' },
      rules: [
        { ttl: 1, label: 'one' },
        { ttl: 2, label: 'two' },
      ],
      high: 'high',
    };
    const packets = [1, 2, 3, 9, 10].map((ttl) => packet().ipv4({ ttl }).udp().bytes());
    await agree(testing, engine, stageOf(body, { uses }), [...packets, packet().ipv6().udp().bytes()]);
  });
}
