/** Control flow goes on an engine where it goes in JavaScript, also as minifiers write it. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { array, packed, u8, u16, u32 } from '@tailrace/stage';
import * as testing from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, test } from 'vitest';
import { agree, stageOf } from '../fixture.ts';

const Fields = packed({ a: u8, b: u8, c: u8, w: u16, d: u32, list: array(u8, 8) });
const frames = fc.sample(fc.array(fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 7, 9, 255), fc.nat(255)), { minLength: 20, maxLength: 20 }), {
  numRuns: 60,
  seed: 7,
});

const bodies: Readonly<Record<string, string>> = {
  'if and else': 'if (f.a > 3) r = 1; else if (f.b > 3) r = 2; else { r = 3; }',
  'an empty branch': 'if (f.a) {} else r = 4; if (f.b); else r += 1;',
  'early returns': 'if (f.a < 2) return ctx.drop(); if (f.b < 2) { r = 5; return ctx.exit("low"); } r = 6;',
  'inverted early return': 'if (!(f.a < 2)) { if (!(f.b < 2)) { r = 7; } else return ctx.tx(); } else return ctx.abort();',
  'and, or, not': 'if ((f.a > 1 && f.b > 1) || !(f.c > 1 || f.a === 0)) r = 1; if (!(f.a && f.b)) r += 2; if (!!f.c) r += 4;',
  'values of and, or': 'r = (f.a && f.b) + 2 * (f.a || f.c) + 3 * ((f.a && 7) || 9);',
  'truth of comparisons as values':
    'const x = f.a < f.b; const y = f.b === f.c; if (x !== y) r = 1; r += (x && y ? 2 : 4); if (x === true) r += 8;',
  conditional: 'r = f.a ? (f.b ? 1 : f.c ? 2 : 3) : f.b > f.c ? 4 : 5;',
  'a conditional as a condition': 'if (f.a ? f.b > 2 : f.c > 2) r = 1; if ((f.a, f.b) > 3) r += 2;',
  'nullish values':
    'const h = ctx.at(Fields, f.a * 4) ?? ctx.at(Fields, f.b); r = h === undefined ? 1 : 2; if (h) r += h.c; const g = ctx.at(Fields, 300) ?? f; r += g.a;',
  switch: 'switch (f.a) { case 0: r = 1; break; case 1: r = 2; break; case 255: r = 3; break; default: r = 4; }',
  'switch with fallthrough': 'switch (f.a & 3) { case 0: r = 1; case 1: r += 2; break; case 2: case 3: r += 4; default: r += 8; }',
  'switch with default in the middle': 'switch (f.a) { case 1: r = 1; default: r += 2; case 2: r += 4; break; case 3: r += 8; }',
  'switch with default first': 'switch (f.b) { default: r = 100; case 2: r += 4; break; case 3: r += 8; }',
  'switch with returns':
    'switch (f.c) { case 0: return ctx.drop(); case 1: return ctx.tx(); case 2: break; default: return ctx.exit("x"); } r = 9;',
  'switch without default': 'switch (f.c) { case 7: r = 7; break; case 9: { const k = 3; r = k; } }',
  'switch over what is computed': 'switch (f.a % 4 + (f.b & 1)) { case f.c & 3: r = 1; break; case 4: r = 2; }',
  'switch over true': 'switch (true) { case f.a > 5: r = 1; break; case f.b > 5: r = 2; break; default: r = 3; }',
  'switch inside a loop':
    'for (let i = 0; i < 4; i++) { switch (f.list[i]) { case 0: continue; case 1: r += 1; break; case 2: r += 10; default: r += 100; } r += 1000; }',
  'for with break and continue':
    'for (let i = 0; i < 8; i++) { if (f.list[i] === 0) continue; if (f.list[i] > 200) break; r += f.list[i]; }',
  'for without a head': 'let i = 0; for (;;) { if (i >= 5) break; r += f.list[i]; i += 2; }',
  'for with two variables': 'for (let i = 0, j = 7; i < j; i++, j--) r += f.list[i] * f.list[j];',
  'for that counts down': 'for (let i = 7; i >= 0; --i) { r = (r * 3 + f.list[i]) >>> 0; }',
  'for with a bound that is known by its range': 'const n = f.a & 3; for (let i = 0; i < n; i++) r += f.list[i];',
  'for with a bound that is tested': 'if (f.a > 6) return ctx.drop(); for (let i = 0; i < f.a; i++) r += i + 1;',
  'nested loops with labels':
    'o: for (let i = 0; i < 4; i++) { for (let j = 0; j < 4; j++) { if (f.list[j] === i) continue o; if (f.list[i] === 9) break o; r += 1; } r += 100; }',
  'a labelled block': 'here: { if (f.a > 3) break here; r = 1; { if (f.b > 3) break here; r = 2; } r += 4; } r += 8;',
  'a labelled switch':
    'here: switch (f.a & 1) { case 0: for (let i = 0; i < 2; i++) { if (f.b > 3) break here; r += 1; } default: r += 10; }',
  while: 'let i = 0; while (i < 6) { i++; if (f.list[i] > 100) continue; r += f.list[i]; }',
  'return out of loops':
    'for (const k of [1, 2, 3]) for (let i = 0; i < 3; i++) if (f.list[i] === k) return k === 2 ? ctx.exit("two") : ctx.drop(); r = 1;',
  'for of over constants':
    'for (const x of [3, 5, 7]) { if (x === f.c) break; r += x * f.a; } for (const { k, v } of [{ k: 1, v: 2 }, { k: 3, v: 4 }]) if (f.a === k) r += v;',
  'a comma and conditions as statements':
    'f.a > 3 && (r = 1), f.b > 3 || (r += 2); f.c ? r += 4 : (r += 8, r += f.a); void (r += 1); !(f.a > 9 && (r += 16));',
  'minified returns': 'return f.a > 3 ? (r = 1, ctx.meta.r = r, f.b ? ctx.drop() : ctx.exit(f.c ? "one" : "two")) : ctx.next();',
  'shadowed names':
    'let x = 1; { let x = f.a; x += 1; r += x; } { const x = 7; r += x * 10; } for (let x = 0; x < 2; x++) r += x * 100; r += x * 1000;',
  'var in blocks':
    'if (f.a > 3) { var x = 1; } else { var x = 2; } r = x; var y = 5; { var y = 6; } r += y * 10; for (var i = 0; i < 3; i++) { var z; if (i === 1) z = f.b; } r += i * 100 + (z ?? 0) * 1000; var x; r += x * 7;',
  'let without a value':
    'let x; if (f.a > 3) x = 1; else x = 2; r = x; let y; for (let i = 0; i < 2; i++) { let k; if (i === 0) k = 5; r += k === undefined ? 1 : k; }',
  'assignments as values': 'let x, y; x = y = f.a; r = (x += 2) + (y++) + (--x); r += (y = f.b, y);',
  'assignment in a condition': 'let x; if ((x = f.a & 7) > 3) r = x; let ip; if (!(ip = ctx.at(Fields, 2))) return ctx.drop(); r += ip.a;',
  'increments as values': 'let x = f.a; r = x++ + x; r += x-- * 3; r += ++x * 5; r += --x * 7;',
  'compound assignments':
    'r = f.d; r >>>= 3; r &= 0xffff; r |= 1; r ^= f.w; r <<= 2; r += f.a; r >>>= 0; r %= 1000; r *= 3; r += f.b; r >>= 1;',
  'what a path knows':
    'const i = f.a; if (i < 8) r = f.list[i]; const j = f.b; if (j > 7) return ctx.drop(); r += f.list[j]; const k = f.c; r += k === 3 || k === 4 ? f.list[k] : 0; if (i !== 0) r += Math.trunc(1000 / i);',
  'what a path knows, as a value':
    'const i = f.a; r = i < 8 && f.list[i] > 2 ? 1 : 0; const big = i < 8 && f.list[i] > 2; if (big) r += 2; r += (i > 7 || f.list[i]) ? 4 : 0;',
};

/** The cases, on an engine. */
export function statementSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  test.each(Object.entries(bodies))('%s', async (_name, body) => {
    const text = `const f = ctx.at(Fields, 0); if (!f) return ctx.drop(); let r = 0;\n${body}\nctx.meta.r = r >>> 0; return ctx.next();`;
    await agree(
      testing,
      engine,
      stageOf(text, { uses: { Fields }, writes: { r: u32 } }),
      frames.map((bytes) => Uint8Array.from(bytes)),
    );
  });
}
