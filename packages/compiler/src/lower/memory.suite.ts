/** Memory by layout: literals, struct copies, arrays, views and maps hold on an engine what they hold in JavaScript. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import {
  array,
  arrayMap,
  be16,
  be32,
  bits,
  bool,
  flag,
  hash,
  i32,
  i64,
  ipv4Prefix,
  ipv6Address,
  ipv6Prefix,
  lpmTrie,
  lruHash,
  lruPerCpuHash,
  mac,
  packed,
  perCpuArray,
  perCpuHash,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import { packet } from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AgreementOptions, agree, stageOf } from '../fixture.ts';

const Pair = struct({ a: u8, b: u32 });
const Fields = packed(
  { b: u8, w: u16, d: u32, q: u64, nw: be16, nd: be32, hw: mac, list: array(u8, 4), pairs: array(Pair, 2), c: u8 },
  { low: bits('d', 0, 3), mid: bits('d', 5, 9, { scale: 4 }), bit: flag('b', 0), high: flag('b', 7) },
);
/** Holes behind a, c, inner and at the end. */
const Key = struct({ a: u8, b: u32, c: u16, inner: struct({ x: u8, y: u16 }), q: u64, z: u8 });
const Value = struct({ n: u64, pair: Pair, pairs: array(Pair, 3), words: array(u16, 5), on: bool, hw: mac, s: i32, l: i64 });
const table = hash({ name: 'table', key: Key, value: Value, maxEntries: 1000 });
const counts = hash({ name: 'counts', key: u32, value: u64, maxEntries: 1000 });
const only = arrayMap({ name: 'only', value: Value, maxEntries: 1 });
const slots = arrayMap({ name: 'slots', value: Value, maxEntries: 4 });
const own = perCpuArray({ name: 'own', value: Value, maxEntries: 2 });
const ownCounts = perCpuHash({ name: 'ownCounts', key: be32, value: struct({ packets: u64, last: u8 }), maxEntries: 1000 });
const recent = lruHash({ name: 'recent', key: Pair, value: u32, maxEntries: 1000 });
const ownRecent = lruPerCpuHash({ name: 'ownRecent', key: u16, value: u16, maxEntries: 1000 });
const Grid = packed({ rows: array(array(u16, 3), 4), odd: array(packed({ x: u8, y: u16 }), 8) });
const grid = perCpuArray({
  name: 'grid',
  value: struct({ pad: u8, rows: array(array(u16, 3), 4), odd: array(packed({ x: u8, y: u16 }), 8) }),
  maxEntries: 1,
});
const all = { Grid, grid, Fields, table, counts, only, slots, own, ownCounts, recent, ownRecent };

const byte = fc.oneof(fc.constantFrom(0, 1, 2, 3, 255), fc.nat(255));
const frames = fc.sample(fc.array(byte, { minLength: 60, maxLength: 60 }), { numRuns: 25, seed: 5 }).map((b) => Uint8Array.from(b));

/** The cases, on an engine. */
export function memorySuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  async function check(body: string, options?: AgreementOptions): Promise<void> {
    const uses = Object.fromEntries(Object.entries(all).filter(([name]) => name === 'Fields' || body.includes(name)));
    const text = `const f = ctx.at(Fields, 0); if (!f) return ctx.drop(); let r = 0;\n${body}\nctx.meta.r = r; return ctx.next();`;
    await agree(testing, engine, stageOf(text, { uses, writes: { r: u32 } }), frames, options);
  }

  describe('object literals', () => {
    const bodies: Readonly<Record<string, string>> = {
      'as key and value, with holes': `
      const value = { n: f.q, pair: { a: f.b, b: f.d }, pairs: [{ a: 1, b: 2 }, { a: f.b, b: 3 }, { b: f.d, a: 4 }], words: [1, f.w, 3, f.nw, 5], on: f.bit, hw: f.hw, s: f.d, l: f.q };
      if (table.update({ a: f.b, b: f.d, c: f.w, inner: { x: f.c, y: f.nw }, q: f.q, z: f.b + 1 }, value)) r = 1;
      if (table.lookup({ a: f.b, b: f.d, c: f.w, inner: { x: f.c, y: f.nw }, q: f.q, z: f.b + 1 })) r += 2;`,
      'in another order, quoted and shorthand': `
      const a = f.b; const b = f.d;
      recent.update({ b, 'a': a }, 7); r = recent.lookup({ a, b }) ? 1 : 0;`,
      'values that do not fit wrap': `
      recent.update({ a: f.d, b: f.q > 5n ? -1 : f.hw }, -f.b); recent.update({ a: -1, b: 0x1ffffffff }, 300);`,
      'changed after use': `
      const key = { a: f.b, b: 1 };
      recent.update(key, 1); key.b = 2; recent.update(key, 2); key.a += 1; recent.update(key, 3); key.b++;
      r = (recent.lookup({ a: f.b, b: 1 }) ? 1 : 0) + (recent.lookup(key) ? 2 : 0);`,
      'used again unchanged': `
      const key = { a: f.b & 1, b: f.c & 1 };
      const before = recent.lookup(key); if (!before) recent.update(key, 1); else before.value += 1; const after = recent.lookup(key); if (after) r = after.value;`,
      'changed on one path': `
      const key = { a: 1, b: 1 }; recent.update(key, 1); if (f.b > 2) key.a = 2; recent.update(key, f.b); if (f.c > 2) { key.b = 3; recent.update(key, 9); } recent.delete(key);`,
      'nested, changed inside': `
      const key = { a: 1, b: 2, c: 3, inner: { x: 4, y: 5 }, q: 6n, z: 7 }; const inner = key.inner; inner.x = f.b; key.inner.y = f.w;
      const value = { n: 1n, pair: { a: key.inner.x, b: inner.y }, pairs: [{ a: 0, b: 0 }, { a: 0, b: 0 }, { a: 0, b: 0 }], words: [0, 0, 0, 0, 0], on: true, hw: 0, s: -1, l: -1n };
      table.update(key, value); r = key.inner.x + inner.y; const other = key; other.z = 9; r += key.z;`,
      'out of references': `
      const o = only.lookup(0); if (!o) return ctx.drop();
      table.update({ a: 1, b: 2, c: 3, inner: { x: 4, y: 5 }, q: 6n, z: 7 }, { n: 1n, pair: f.pairs[1], pairs: o.pairs, words: o.words, on: f.high, hw: f.hw, s: 1, l: 1n });`,
      'as one key, scalar and reference': `
      recent.update(f.pairs[0], 5); const found = recent.lookup(f.pairs[0]); if (found) r = found.value; counts.update(f.d, f.q); const n = counts.lookup(f.d); if (n) r += Number(n.value & 0xffn);`,
      'in loops':
        'for (const k of [1, 2, 3]) { const key = { a: k, b: f.b & 3 }; recent.update(key, k * 10); if (k === 2) continue; key.a += 10; recent.update(key, k); }',
    };
    test.each(Object.entries(bodies))('%s', async (_name, body) => check(body));
  });

  describe('structs and arrays in place', () => {
    const bodies: Readonly<Record<string, string>> = {
      'fields of each kind': `
      const o = only.lookup(0); if (!o) return ctx.drop();
      o.n = f.q; o.pair.a = f.b; o.pair.b = f.nd; o.words[0] = f.w; o.words[4] = f.nw; o.on = f.b > f.c; o.hw = f.hw; o.s = -f.d; o.l = -f.q; f.hw = o.hw + 1; f.nd = o.pair.b ^ 0xff; f.list[3] = o.words[0];
      r = (o.on ? 1 : 0) + o.words[4] + o.words.length * 100000;`,
      'whole structs and arrays': `
      const o = only.lookup(0); if (!o) return ctx.drop();
      o.pair = f.pairs[1]; o.pairs[2] = o.pair; o.pairs[0] = { a: f.b, b: f.d }; f.pairs[0] = o.pairs[0]; o.words = [1, f.b, 3, f.w, 5]; o.pairs[1] = o.pairs[2];`,
      'a literal out of what it overwrites': `
      const o = only.lookup(0); if (!o) return ctx.drop(); o.pairs = [{ a: f.b, b: 1 }, { a: f.c, b: 2 }, { a: f.b, b: f.d }];
      o.pairs[0] = { a: o.pairs[0].b, b: o.pairs[0].a }; o.pairs = [o.pairs[2], o.pairs[0], o.pairs[1]]; const again = only.lookup(0); if (!again) return ctx.drop(); o.pairs = [again.pairs[1], { a: again.pairs[0].a, b: 5 }, again.pairs[0]];`,
      'structs that overlap': `
      const x = ctx.at(Fields, 3); if (!x) return ctx.drop(); x.pairs[0] = f.pairs[0]; f.pairs[1] = x.pairs[0]; x.pairs[1] = f.pairs[1]; const y = ctx.at(Fields, f.b & 7); if (y) y.pairs[0] = f.pairs[1];`,
      'elements at computed places': `
      const o = slots.lookup(f.b & 3); if (!o) return ctx.drop();
      const i = f.b % 3; o.pairs[i].b = f.d; o.pairs[i] = { a: 9, b: o.pairs[f.c % 3].b + 1 }; const j = f.c; if (j < 5) { o.words[j] = j; r = o.words[j] + o.words[(j * 2) % 5]; } f.list[f.d & 3] = 0xee; r += f.list[f.nd % 4]; r += f.pairs[f.b >> 7].b & 0xff;`,
      'arrays of arrays, and of odd items': `
      const m = grid.lookup(0); const g = ctx.at(Grid, 20); if (!m || !g) return ctx.drop(); const i = f.b & 3; const j = f.c % 3;
      m.rows[i][j] = f.w; m.rows[j][i & 1] += 1; g.rows[i][j] = m.rows[3 - i][2] + g.rows[j][0]; m.odd[f.d & 7].x = f.b; m.odd[f.nd % 8].y = f.w; g.odd[i] = m.odd[j]; const row = m.rows[i]; row[2] = row[j] ^ row[0]; m.rows[0] = m.rows[i]; r = g.odd[f.b >>> 5].y + row.length + m.rows.length;
      for (let k = 0; k < m.rows.length; k++) r += m.rows[k][j];`,
      'an index that is tested in place':
        'if (f.b < 4) r = f.list[f.b]; if (f.c > 3) return ctx.drop(); r += f.list[f.c]; if (f.w !== 0) r += Math.trunc(100 / f.w);',
      'fields read again after they were written': `
      r = f.b; f.b = f.b + 1; r += f.b; const g = ctx.at(Fields, 1); if (g && g.b < 7) g.b = 9; r += f.w; if (f.c & 1) f.b = 3; else if (f.c & 2) r += f.b; r += f.b; f.pairs[f.c & 1] = { a: f.b, b: f.w }; r += f.pairs[0].a + f.pairs[1].a;
      if (f.low === 3) { f.d = 7; if (f.low !== 7) r = 99; } f.list[f.b & 3] = 1; for (let i = 0; i < 4; i++) { r += f.list[i]; f.list[3 - i] += r; } r += f.list[0] < 4 ? f.list[f.list[0]] : 0;`,
      'views and flags': `
      r = f.low + f.mid * 10; if (f.bit) r += 1; if (!f.high) r += 2; if (f.bit && f.high) r += 4; const x = f.bit; f.b ^= 1; r += (x ? 8 : 0) + (f.bit ? 16 : 0) + (f.bit === x ? 32 : 64); r += f.mid > 100 ? f.low : 0;`,
      'references in variables': `
      let p = f.pairs[0]; const before = p.a; if (f.b & 1) p = f.pairs[1]; p.a = 7; r = before + p.b % 1000 + f.pairs[0].a; const { a, b: bb } = p; r += a + (bb & 0xff); const { pairs, d } = f; pairs[1].b = 5; r += f.pairs[1].b + (d & 1);`,
      'through one of two references': `
      const x = counts.lookup(f.b & 3); const y = counts.lookup(f.c & 3); const z = f.w & 1 ? x : y; if (z) z.value = z.value + 1n; else counts.update(f.b & 3, 1n); if (x && y) { const w = x.value > y.value ? x : y; w.value = 0n; }`,
      'values of assignments': `
      const o = only.lookup(0); if (!o) return ctx.drop(); r = (o.pair.a = 300) + o.pair.a; r += (o.words[1] = f.d) & 1; const k = { a: 1, b: 2 }; r += (k.a = 5) + (k.b += 7) + k.a++ + --k.b + k.a;`,
    };
    test.each(Object.entries(bodies))('%s', async (_name, body) => check(body));
  });

  describe('maps', () => {
    const bodies: Readonly<Record<string, string>> = {
      hash: `
      const k = f.b & 7; const hit = counts.lookup(k); if (hit) { hit.value += 1n; if (hit.value > 2n) { r = counts.delete(k) ? 1 : 2; } } else r = counts.update(k, 1n) ? 4 : 8; r += counts.delete(99) ? 16 : 32;`,
      'update flags': `
      const k = f.b & 3; r = (counts.update(k, 1n, 'noexist') ? 1 : 0) + (counts.update(k, 2n, 'exist') ? 2 : 0) + (counts.update(k + 4, 3n, 'exist') ? 4 : 0) + (counts.update(k, 5n, 'any') ? 8 : 0);`,
      'atomic additions': `
      const s = slots.lookup(f.b & 3); if (!s) return ctx.drop(); s.n += f.q; s.n -= 3n; s.s += f.d; s.s -= f.b; s.pair.b += 1; s.pair.b -= f.w; s.l += -5n; s.n++; --s.pair.b; s.pairs[f.c % 3].b += 2; const n = counts.lookup(1); if (n) n.value += BigInt(f.b); else counts.update(1, 0n);`,
      'plain writes to shared values':
        'const s = slots.lookup(f.b & 7); if (!s) return ctx.exit("none"); s.words[0] = s.words[0] + 1; s.pair.a = s.pair.a * 3 + f.b; s.on = !s.on; s.hw = s.hw + 1;',
      'per-CPU arrays': `
      const s = own.lookup(f.b & 1); if (!s) return ctx.drop(); s.n += 1n; s.words[f.b & 3] += f.w; s.pair.a++; s.pair.b *= 3; s.on = !s.on; s.n <<= 1n; s.hw += 1; s.l ^= f.q; if (!own.lookup(2)) r = 1;`,
      'per-CPU hashes': `
      const s = ownCounts.lookup(f.nd & 3); if (s) { s.packets += 1n; s.last = f.b; r = s.last; } else ownCounts.update(f.nd & 3, { packets: 1n, last: f.c }); if (f.b === 3) ownCounts.delete(f.nd & 3);`,
      'LRU maps':
        'const k = f.w & 15; const s = ownRecent.lookup(k); if (s) s.value += 1; else ownRecent.update(k, f.b); recent.update({ a: f.b, b: f.c }, f.w); const t = recent.lookup({ a: f.b, b: f.c }); if (t) t.value += 5;',
      'what lookup gives': `
      const x = slots.lookup(f.b & 7); r = (x ? 1 : 0) + (x === undefined ? 2 : 0) + (undefined !== x ? 4 : 0) + (!x ? 8 : 0); const y = x ?? slots.lookup(0); if (y) y.n += 1n; const z = x !== undefined && x.n > 2n; if (z) r += 16; r += only.lookup(0) ? 32 : 64;`,
    };
    test.each(Object.entries(bodies))('%s', async (_name, body) => check(body));

    test('longest prefixes', async () => {
      const four = lpmTrie({ name: 'four', key: ipv4Prefix, value: struct({ hits: u64, via: ipv6Address }), maxEntries: 100 });
      const six = lpmTrie({ name: 'six', key: ipv6Prefix, value: u32, maxEntries: 100 });
      const body = `
      const ip = ctx.ipv4();
      if (ip) {
        const route = four.lookup({ prefixLen: 32, addr: ip.daddr });
        if (!route) return ctx.exit(four.update({ prefixLen: 24, addr: (ip.daddr & 0xffffff00) >>> 0 }, { hits: 0n, via: { hi: 1n, lo: BigInt(ip.saddr) } }) ? 'learnt' : 'full');
        route.hits += 1n; return ctx.tx();
      }
      const ip6 = ctx.ipv6(); if (!ip6) return ctx.drop();
      const found = six.lookup({ prefixLen: 128, addr: ip6.saddr }); if (!found) return ctx.exit('unknown');
      found.value += 1; if (found.value > 3) six.delete({ prefixLen: 48, addr: { hi: ip6.saddr.hi, lo: 0n } }); return ctx.pass();`;
      const addresses = ['192.0.2.1', '192.0.2.200', '10.0.0.1', '192.0.2.7', '10.0.1.1'];
      const six6 = ['2001:db8::1', '2001:db8:1::', '2001:db8::2', 'fe80::1', '2001:db8::3', '2001:db8::4'];
      const packets = [...addresses.map((daddr) => packet().ipv4({ daddr }).udp()), ...six6.map((saddr) => packet().ipv6({ saddr }).udp())];
      const outcomes = await agree(
        testing,
        engine,
        stageOf(body, { uses: { four, six } }),
        packets.map((p) => p.bytes()),
        {
          prepare: (handle) => {
            handle(four).set({ prefixLen: 8, addr: 0x0a000000 }, { hits: 5n, via: { hi: 0n, lo: 1n } });
            handle(six).set({ prefixLen: 48, addr: { hi: 0x20010db800000000n, lo: 0n } }, 1);
          },
        },
      );
      expect(outcomes.map((o) => o.exit ?? o.verdict)).toEqual([
        'learnt',
        'tx',
        'tx',
        'tx',
        'tx',
        'pass',
        'unknown',
        'pass',
        'unknown',
        'pass',
        'unknown',
      ]);
    });
  });
}
