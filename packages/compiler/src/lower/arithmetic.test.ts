import { i32, i64, packed, u8, u16, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { compileStage } from '../compile.ts';
import { refusal, stageOf } from '../fixture.ts';

const F = packed({ b: u8, w: u16, d: u32, e: u32, s: i32, q: u64, p: u64, l: i64 });
const inBody = (body: string): string => `const f = ctx.at(F, 0);\nif (!f) return ctx.drop();\n${body}\nreturn ctx.next();`;
const refused = (body: string): string => refusal(inBody(body), { uses: { F } });

test('numbers and bigints do not mix', () => {
  expect(refused('f.q = f.q + 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:7: stage 'sample': a number and a bigint are mixed
     4 | f.q = f.q + 1;
       |       ^^^^^^^
       = hint: write 1n for 1, or BigInt(x), or Number(x)"
  `);
  expect(refused('f.d += 1n;')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': a number and a bigint are mixed
     4 | f.d += 1n;
       | ^^^^^^^^^
       = hint: write 1n for 1, or BigInt(x), or Number(x)"
  `);
  expect(refused('const x = f.d * f.q;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': a number and a bigint are mixed
     4 | const x = f.d * f.q;
       |           ^^^^^^^^^
       = hint: write 1n for 1, or BigInt(x), or Number(x)"
  `);
  expect(refused('f.q = 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:7: stage 'sample': a number where a bigint is stored
     4 | f.q = 1;
       |       ^
       = hint: write 1n, or BigInt(x)"
  `);
  expect(refused('f.d = f.q;')).toMatchInlineSnapshot(`
    "stage.ts:4:7: stage 'sample': a bigint where a number is stored
     4 | f.d = f.q;
       |       ^^^
       = hint: use Number(x)"
  `);
  expect(refused('if (f.q === 1) return ctx.pass();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': a number and a bigint are compared
     4 | if (f.q === 1) return ctx.pass();
       |     ^^^^^^^^^
       = hint: write 1n for 1, or BigInt(x), or Number(x)"
  `);
  expect(refused('f.d++; f.q += f.d;')).toMatchInlineSnapshot(`
    "stage.ts:4:8: stage 'sample': a number and a bigint are mixed
     4 | f.d++; f.q += f.d;
       |        ^^^^^^^^^^
       = hint: write 1n for 1, or BigInt(x), or Number(x)"
  `);
  expect(refused('f.b = Math.min(1n, f.b);')).toMatchInlineSnapshot(`
    "stage.ts:4:16: stage 'sample': a bigint where a number is expected
     4 | f.b = Math.min(1n, f.b);
       |                ^^"
  `);
});

test('numbers stay where they are exact', () => {
  expect(refused('const x = f.d * f.e;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the result may leave ±2^53, where numbers are exact
     4 | const x = f.d * f.e;
       |           ^^^^^^^^^
       = hint: write Math.imul(a, b) for a product of 32 bits"
  `);
  expect(refused('let x = f.d; for (let i = 0; i < 40; i++) x = x + x;')).toMatchInlineSnapshot(`
    "stage.ts:4:47: stage 'sample': the result may leave ±2^53, where numbers are exact
     4 | let x = f.d; for (let i = 0; i < 40; i++) x = x + x;
       |                                               ^^^^^
       = hint: write (a + b) >>> 0 for a sum of 32 bits"
  `);
  expect(refused('let x = f.s; for (let i = 0; i < 9; i++) x = x * 256 - 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:46: stage 'sample': the result may leave ±2^53, where numbers are exact
     4 | let x = f.s; for (let i = 0; i < 9; i++) x = x * 256 - 1;
       |                                              ^^^^^^^
       = hint: write Math.imul(a, b) for a product of 32 bits"
  `);
  expect(refused('const x = 0x1fffffffffffff * 3;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the result may leave ±2^53, where numbers are exact
     4 | const x = 0x1fffffffffffff * 3;
       |           ^^^^^^^^^^^^^^^^^^^^
       = hint: write Math.imul(a, b) for a product of 32 bits"
  `);
  expect(refused('let x = 0x1fffffffffffff; for (let i = 0; i < 30; i++) x = x * x;')).toMatchInlineSnapshot(`
    "stage.ts:4:60: stage 'sample': the result may leave ±2^53, where numbers are exact
     4 | let x = 0x1fffffffffffff; for (let i = 0; i < 30; i++) x = x * x;
       |                                                            ^^^^^
       = hint: write Math.imul(a, b) for a product of 32 bits"
  `);
  expect(refused('const x = 0x20000000000000;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': 0x20000000000000 is beyond ±2^53
     4 | const x = 0x20000000000000;
       |           ^^^^^^^^^^^^^^^^
       = hint: write a bigint: add an n"
  `);
  expect(refused('const x = 1.5;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': 1.5 is no integer
     4 | const x = 1.5;
       |           ^^^"
  `);
  expect(refused('const x = Number(f.q);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the bigint may be beyond ±2^53, where numbers are not exact
     4 | const x = Number(f.q);
       |           ^^^^^^^^^^^
       = hint: mask it: Number(x & 0xffffffffn)"
  `);
});

test('division', () => {
  expect(refused('const x = f.d / 2;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': number / number is a fraction in JavaScript
     4 | const x = f.d / 2;
       |           ^^^^^^^
       = hint: write Math.trunc(a / b), (a / b) >>> 0 or a >>> k"
  `);
  expect(refused('const x = Math.trunc(f.d / f.b);')).toMatchInlineSnapshot(`
    "stage.ts:4:22: stage 'sample': the divisor may be zero
     4 | const x = Math.trunc(f.d / f.b);
       |                      ^^^^^^^^^
       = hint: test it first: if (x > 0) …"
  `);
  expect(refused('const x = f.d % f.s;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the divisor may be negative
     4 | const x = f.d % f.s;
       |           ^^^^^^^^^
       = hint: test it first: if (x > 0) …"
  `);
  expect(refused('const x = f.d % 0;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the divisor may be zero
     4 | const x = f.d % 0;
       |           ^^^^^^^
       = hint: test it first: if (x > 0) …"
  `);
  expect(refused('const x = Math.trunc(7 / 0);')).toMatchInlineSnapshot(`
    "stage.ts:4:22: stage 'sample': the divisor may be zero
     4 | const x = Math.trunc(7 / 0);
       |                      ^^^^^
       = hint: test it first: if (x > 0) …"
  `);
  expect(refused('const x = f.s % 3;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': a value that may be negative (-2147483648..2147483647) is divided
     4 | const x = f.s % 3;
       |           ^^^^^^^
       = hint: make it unsigned first: x >>> 0"
  `);
  expect(refused('const x = (f.s / 3) | 0;')).toMatchInlineSnapshot(`
    "stage.ts:4:12: stage 'sample': a value that may be negative (-2147483648..2147483647) is divided
     4 | const x = (f.s / 3) | 0;
       |            ^^^^^^^
       = hint: make it unsigned first: x >>> 0"
  `);
  expect(refused('const x = f.q / f.p;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the divisor may be zero
     4 | const x = f.q / f.p;
       |           ^^^^^^^^^
       = hint: test it first: if (x > 0) …"
  `);
  expect(refused('const x = f.l % 3n;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': a value that may be negative is divided
     4 | const x = f.l % 3n;
       |           ^^^^^^^^
       = hint: write BigInt.asUintN(64, x)"
  `);
  expect(refused('const x = Math.floor(f.d);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': Math.floor is not allowed
     4 | const x = Math.floor(f.d);
       |           ^^^^^^^^^^^^^^^
       = hint: numbers are integers here"
  `);
});

test('comparisons that never hold because bitwise results are signed', () => {
  expect(refused('if ((f.d & 0xff000000) === 0xe0000000) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': this is never so: bitwise results are signed 32 bits in JavaScript
     4 | if ((f.d & 0xff000000) === 0xe0000000) return ctx.drop();
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write (x & y) >>> 0"
  `);
  expect(refused('if ((f.d | 1) !== 0xffffffff) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': this is always so: bitwise results are signed 32 bits in JavaScript
     4 | if ((f.d | 1) !== 0xffffffff) return ctx.drop();
       |     ^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write (x & y) >>> 0"
  `);
  expect(refused('if (0x80000000 === ~f.d) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': this is never so: bitwise results are signed 32 bits in JavaScript
     4 | if (0x80000000 === ~f.d) return ctx.drop();
       |     ^^^^^^^^^^^^^^^^^^^
       = hint: write (x & y) >>> 0"
  `);
  expect(refused('if ((f.d ^ f.e) > 0x80000000) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': this is never so: bitwise results are signed 32 bits in JavaScript
     4 | if ((f.d ^ f.e) > 0x80000000) return ctx.drop();
       |     ^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write (x & y) >>> 0"
  `);
  expect(refused('if ((f.d & 0xf0000000) >= 0xe0000000) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': this is never so: bitwise results are signed 32 bits in JavaScript
     4 | if ((f.d & 0xf0000000) >= 0xe0000000) return ctx.drop();
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write (x & y) >>> 0"
  `);
  expect(refused('if ((f.d << 8) <= 0xffffffff) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': this is always so: bitwise results are signed 32 bits in JavaScript
     4 | if ((f.d << 8) <= 0xffffffff) return ctx.drop();
       |     ^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write (x & y) >>> 0"
  `);
  expect(refused('if (0xc0000000 < Math.imul(f.d, f.e)) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': this is never so: bitwise results are signed 32 bits in JavaScript
     4 | if (0xc0000000 < Math.imul(f.d, f.e)) return ctx.drop();
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write (x & y) >>> 0"
  `);
  expect(refused('switch (f.d & 0xf0000000) { case 0xe0000000: return ctx.drop(); }')).toMatchInlineSnapshot(`
    "stage.ts:4:34: stage 'sample': this is never so: bitwise results are signed 32 bits in JavaScript
     4 | switch (f.d & 0xf0000000) { case 0xe0000000: return ctx.drop(); }
       |                                  ^^^^^^^^^^
       = hint: write (x & y) >>> 0"
  `);
});

test('bigints that may have wrapped', () => {
  expect(refused('const x = (f.q + f.p) / 2n;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': it may have wrapped at 64 bits, where JavaScript goes on
     4 | const x = (f.q + f.p) / 2n;
       |           ^^^^^^^^^^^^^^^^
       = hint: write BigInt.asUintN(64, x)"
  `);
  expect(refused('const x = (f.q - f.p) >> 3n;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': it may have wrapped at 64 bits, where JavaScript goes on
     4 | const x = (f.q - f.p) >> 3n;
       |           ^^^^^^^^^^^^^^^^^
       = hint: write BigInt.asUintN(64, x)"
  `);
  expect(refused('if (f.q * 2n > f.p) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': it may have wrapped at 64 bits, where JavaScript goes on
     4 | if (f.q * 2n > f.p) return ctx.drop();
       |     ^^^^^^^^^^^^^^
       = hint: write BigInt.asUintN(64, x)"
  `);
  expect(refused('if (f.q - 1n) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': it may have wrapped at 64 bits, where JavaScript goes on
     4 | if (f.q - 1n) return ctx.drop();
       |     ^^^^^^^^
       = hint: write BigInt.asUintN(64, x)"
  `);
  expect(refused('if (f.l < f.q) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:4:5: stage 'sample': a bigint that may be negative is compared with one that may be above 2^63
     4 | if (f.l < f.q) return ctx.drop();
       |     ^^^^^^^^^
       = hint: write BigInt.asUintN(64, x) on both sides"
  `);
  expect(refused('const x = Number(f.q << 8n);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': it may have wrapped at 64 bits, where JavaScript goes on
     4 | const x = Number(f.q << 8n);
       |           ^^^^^^^^^^^^^^^^^
       = hint: write BigInt.asUintN(64, x)"
  `);
  expect(refused('const x = f.q >>> 3n;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': bigints have no >>>
     4 | const x = f.q >>> 3n;
       |           ^^^^^^^^^^
       = hint: use >>"
  `);
});

test('shift counts of bigints', () => {
  expect(refused('const x = f.q << f.p;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the shift count may be 0..18446744073709551615, expected 0..63
     4 | const x = f.q << f.p;
       |           ^^^^^^^^^^
       = hint: mask it: & 63n"
  `);
  expect(refused('const x = f.q >> 64n;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the shift count is 64, expected 0..63
     4 | const x = f.q >> 64n;
       |           ^^^^^^^^^^
       = hint: mask it: & 63n"
  `);
  expect(refused('const x = f.q << -1n;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': the shift count is -1, expected 0..63
     4 | const x = f.q << -1n;
       |           ^^^^^^^^^^
       = hint: mask it: & 63n"
  `);
  expect(refused('const x = f.q << 3;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': a number and a bigint are mixed
     4 | const x = f.q << 3;
       |           ^^^^^^^^
       = hint: write 1n for 1, or BigInt(x), or Number(x)"
  `);
});

test('operators that are not part of the language', () => {
  expect(refused('const x = f.d ** 2;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': operator ** is not part of the language
     4 | const x = f.d ** 2;
       |           ^^^^^^^^"
  `);
  expect(refused('const x = "w" in f;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': operator in is not part of the language
     4 | const x = "w" in f;
       |           ^^^^^^^^"
  `);
  expect(refused('const x = f instanceof F;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': operator instanceof is not part of the language
     4 | const x = f instanceof F;
       |           ^^^^^^^^^^^^^^"
  `);
  expect(refused('const x = typeof f.d;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': typeof of a number is not part of the language
     4 | const x = typeof f.d;
       |           ^^^^^^^^^^"
  `);
  expect(refused('const x = +f.q;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': + of a bigint is not part of the language
     4 | const x = +f.q;
       |           ^^^^"
  `);
  expect(refused('const x = -f;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': - of a reference to a struct is not part of the language
     4 | const x = -f;
       |           ^^"
  `);
  expect(refused('const x = f.d + "a";')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': a string as an operand of +
     4 | const x = f.d + "a";
       |           ^^^^^^^^^"
  `);
  expect(refused('const x = f + 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': a reference to a struct as an operand of +
     4 | const x = f + 1;
       |           ^^^^^"
  `);
  expect(refused('const x = true + 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': a boolean as an operand of +
     4 | const x = true + 1;
       |           ^^^^^^^^"
  `);
  expect(refused('const x = undefined + 1;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': undefined as an operand of +
     4 | const x = undefined + 1;
       |           ^^^^^^^^^^^^^"
  `);
  expect(refused('delete f.d;')).toMatchInlineSnapshot(`
    "stage.ts:4:1: stage 'sample': delete of a number is not part of the language
     4 | delete f.d;
       | ^^^^^^^^^^"
  `);
});

test('the few globals', () => {
  expect(refused('const x = Math.sqrt(f.d);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': Math.sqrt is not allowed in a program
     4 | const x = Math.sqrt(f.d);
       |           ^^^^^^^^^^^^^^
       = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
  `);
  expect(refused('const x = Math.min();')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': nothing where a number is expected
     4 | const x = Math.min();
       |           ^^^^^^^^^^"
  `);
  expect(refused('const x = Math.max();')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': nothing where a number is expected
     4 | const x = Math.max();
       |           ^^^^^^^^^^"
  `);
  expect(refused('const x = Math.trunc();')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': Math.trunc is not allowed in a program
     4 | const x = Math.trunc();
       |           ^^^^^^^^^^^^
       = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
  `);
  expect(refused('const x = Math.imul(f.d);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': nothing where a number is expected
     4 | const x = Math.imul(f.d);
       |           ^^^^^^^^^^^^^^"
  `);
  expect(refused('const x = Math.clz32(f.q);')).toMatchInlineSnapshot(`
    "stage.ts:4:22: stage 'sample': a bigint where a number is expected
     4 | const x = Math.clz32(f.q);
       |                      ^^^"
  `);
  expect(refused('const x = Math.PI;')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': 'Math' can only be called
     4 | const x = Math.PI;
       |           ^^^^
       = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
  `);
  expect(refused('const x = Number("1");')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': Number() of a string
     4 | const x = Number("1");
       |           ^^^^^^^^^^^"
  `);
  expect(refused('const x = BigInt();')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': nothing where a number is expected
     4 | const x = BigInt();
       |           ^^^^^^^^"
  `);
  expect(refused('const x = BigInt.asUintN(f.b, f.q);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': BigInt.asUintN takes a constant number of bits and a bigint
     4 | const x = BigInt.asUintN(f.b, f.q);
       |           ^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write BigInt.asUintN(64, x)"
  `);
  expect(refused('const x = BigInt.asUintN(48, f.q);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': BigInt.asUintN of 48 bits, expected 8, 16, 32 or 64
     4 | const x = BigInt.asUintN(48, f.q);
       |           ^^^^^^^^^^^^^^^^^^^^^^^"
  `);
  expect(refused('const x = BigInt.asIntN(0, f.q);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': BigInt.asIntN of 0 bits, expected 8, 16, 32 or 64
     4 | const x = BigInt.asIntN(0, f.q);
       |           ^^^^^^^^^^^^^^^^^^^^^"
  `);
  expect(refused('const x = BigInt.asUintN(64, f.d);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': BigInt.asUintN takes a constant number of bits and a bigint
     4 | const x = BigInt.asUintN(64, f.d);
       |           ^^^^^^^^^^^^^^^^^^^^^^^
       = hint: write BigInt.asUintN(64, x)"
  `);
  expect(refused('const x = parseInt(f.d);')).toMatchInlineSnapshot(`
    "stage.ts:4:11: stage 'sample': 'parseInt' is a global that programs do not have
     4 | const x = parseInt(f.d);
       |           ^^^^^^^^
       = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
  `);
  expect(refused('const x = f.d + NaN;')).toMatchInlineSnapshot(`
    "stage.ts:4:17: stage 'sample': 'NaN' is a global that programs do not have
     4 | const x = f.d + NaN;
       |                 ^^^
       = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
  `);
});

test.each([
  'f.d = (f.d + f.e) >>> 0;',
  'f.d = Math.imul(f.d, f.e);',
  'if (((f.d & 0xff000000) >>> 0) === 0xe0000000) return ctx.drop();',
  'if ((f.d & 0x7f) === 0x80) return ctx.drop();',
  'const x = f.d ^ f.e; if (x > 5) if (x === 3) return ctx.drop();',
  'for (let i = 0; (i & 1) < 2 && i < 3; i++) f.b = i;',
  'f.q = (f.q + f.p) * 3n - f.q;',
  'if (BigInt.asUintN(64, f.q + f.p) > 5n) return ctx.drop();',
  'f.d = Number(f.q & 0xffffffffn);',
  'if (f.q > 10n) f.p = f.p / f.q;',
])('accepted: %s', (body) => {
  compileStage(stageOf(inBody(body), { uses: { F } }));
});
