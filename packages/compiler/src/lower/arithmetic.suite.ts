/** Numbers and bigints compute on an engine what they compute in JavaScript, at the corners of every interval. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { array, arrayMap, be16, be32, be64, bool, i32, i64, mac, packed, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, test } from 'vitest';
import { agree, stageOf } from '../fixture.ts';

const Fields = packed({ b: u8, w: u16, d: u32, s: i32, q: u64, l: i64, nw: be16, nd: be32, nq: be64, hw: mac, c: u8, yes: bool });
const results = arrayMap({ name: 'results', value: struct({ n: array(i64, 16), q: array(u64, 16) }), maxEntries: 1 });
const stores = arrayMap({ name: 'stores', value: Fields, maxEntries: 1 });

const corner = fc.constantFrom(0x00, 0x01, 0x02, 0x7f, 0x80, 0xff, 0xfe);
const frame = fc.oneof(
  fc.array(fc.oneof(corner, fc.nat(255)), { minLength: 50, maxLength: 50 }),
  corner.map((byte) => new Array<number>(50).fill(byte)),
);
const frames = fc.sample(frame, { numRuns: 40, seed: 11 }).map((bytes) => Uint8Array.from(bytes));

/** Expressions for each number and bigint result. */
const bodies: Readonly<Record<string, string>> = {
  'what a test says of a bigint': `
    const { q, l, nq } = f;
    if (q > 0n) o.q[0] = nq / q;
    if (q !== 0n) o.q[1] = nq % q;
    if (nq) o.q[2] = q / nq;
    if (l >= 0n && l < 64n) o.q[3] = q >> l;
    if (l >= 0n) o.q[4] = BigInt.asUintN(64, l) / 3n;
    if (q < 0x20000000000000n) o.n[5] = BigInt(Number(q) + 1);
    if (q === 7n || q === 8n) o.n[6] = BigInt(1 << Number(q));
    if (l < 0n) o.n[7] = -l >> 1n; else o.n[7] = l >> 1n;
    o.n[8] = q > 5n ? (q < 9n ? BigInt([1, 2, 3][0] + Number(q)) : 2n) : 3n;`,
  'bitwise operators on bigints beyond 64 bits': `
    o.q[0] = ~f.q; o.q[1] = f.nq & ~f.q; o.q[2] = (f.q - f.nq) | 5n; o.q[3] = (f.q + f.nq) ^ f.l; o.q[4] = (f.q * f.nq) & (f.l - 1n);
    o.q[5] = -f.q ^ -f.nq; o.q[6] = (~f.l | ~f.q) & ~0n; o.q[7] = (f.q << 7n) | (f.nq - f.q); o.q[8] = BigInt.asUintN(64, f.q - f.nq | f.l) >> 3n;
    o.q[9] = BigInt.asUintN(64, (f.q ^ (f.nq * 0x9e3779b97f4a7c15n)) - 1n) % 1000n; o.q[10] = (f.q & 0xffn) - (f.nq & 0xffn) & 0xfn;`,
  'a divisor with a bit set':
    'o.q[0] = f.q / (f.nq | 1n); o.n[1] = BigInt(f.d % (f.w | 4)); o.n[2] = BigInt(Math.trunc(f.hw / (f.b | 1)));',
  'stores wrap': `
    const s = stores.lookup(0); if (!s) return ctx.drop();
    s.b = f.d + 1; s.w = f.s - 7; s.d = f.hw * 3; s.s = f.d * 2; s.q = f.q * f.nq; s.l = f.q + f.nq; s.nw = f.nd - f.b; s.nd = f.hw;
    s.nq = f.q - 1n; s.hw = f.hw * 2 + 1; s.c = -f.c; s.yes = f.d > f.nd;`,
  'stores of what was loaded':
    'const s = stores.lookup(0); if (!s) return ctx.drop(); s.nw = f.nw; s.nd = f.nd; s.nq = f.nq; s.hw = f.hw; s.w = f.nw; s.d = f.nd; s.s = f.nd; s.q = f.nq; s.l = f.l; s.yes = f.yes;',
  'stores of constants':
    'const s = stores.lookup(0); if (!s) return ctx.drop(); s.b = 257; s.w = -2; s.d = 0x123456789a; s.s = 0xfffffffe; s.q = -1n; s.l = 0xffffffffffffff85n; s.nw = 0x1234; s.nd = 0x01020304; s.nq = 0x0102030405060708n; s.hw = 0x0a0b0c0d0e0f; s.c = -1; s.yes = true;',
  'values of assignments and increments in memory': `
    const s = stores.lookup(0); if (!s) return ctx.drop(); f.b = 255; f.w = 65535; f.q = 0xffffffffffffffffn; f.nd = 7;
    o.n[0] = BigInt(f.b++); o.n[1] = BigInt(f.b); o.n[2] = BigInt(++f.w); o.n[3] = BigInt(f.w--); o.n[4] = BigInt(f.w); o.q[0] = f.q++; o.q[1] = f.q; o.q[2] = --f.q;
    o.n[5] = BigInt(f.c = 300); o.n[6] = BigInt(f.c); o.n[7] = BigInt(f.nd += 5); o.n[8] = BigInt(f.nd--); o.n[9] = BigInt(f.nd ^= 0xff);`,
  'minimum and maximum':
    'o.n[0] = BigInt(Math.min(f.d, f.s, f.w)); o.n[1] = BigInt(Math.max(f.s, -1)); o.n[2] = BigInt(Math.max(f.b)); o.n[3] = BigInt(Math.min(Math.max(f.s, 0), 255));',
  'leading zeros':
    'o.n[0] = BigInt(Math.clz32(f.d)); o.n[1] = BigInt(Math.clz32(f.s)); o.n[2] = BigInt(Math.clz32(f.hw)); o.n[3] = BigInt(Math.clz32(-f.b));',
  'comparisons across signs':
    'o.n[0] = f.s < f.d ? 1n : 0n; o.n[1] = f.s === (f.d | 0) ? 1n : 0n; o.n[2] = (f.s >>> 0) === f.d ? 1n : 0n; o.n[3] = f.l < 0n ? 1n : 0n; o.n[4] = f.l > -5n ? 1n : 0n; o.n[5] = ~f.b < 0 ? 1n : 0n; o.n[6] = (f.d & 0x80000000) < 0 ? 1n : 0n;',
};

/** The cases, on an engine. */
export function arithmeticSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  test.each(Object.entries(bodies))('%s', async (_name, body) => {
    const text = `const f = ctx.at(Fields, 0); const o = results.lookup(0); if (!f || !o) return ctx.drop();\n${body}\nreturn ctx.next();`;
    await agree(testing, engine, stageOf(text, { uses: { Fields, results, ...(body.includes('stores') ? { stores } : {}) } }), frames);
  });
}
