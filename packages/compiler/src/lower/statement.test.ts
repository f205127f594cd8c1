import { array, fn, nothing, packed, u8, u32 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { compileStage } from '../compile.ts';
import { programStage, refusal, stageOf } from '../fixture.ts';

const F = packed({ b: u8, d: u32, long: array(u8, 300) });
const same = fn([u32], u32, (x) => x);
const refused = (body: string): string => refusal(`${body}\nreturn ctx.next();`, { uses: { F, list: [1, 2], limit: 5, same } });

describe('loops', () => {
  test('without a provable bound', () => {
    expect(refused('for (let i = 0; i < ctx.length; i++) {}')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': the loop may run more than 256 times
       2 | for (let i = 0; i < ctx.length; i++) {}
         | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: give it a constant bound: for (let i = 0; i < 8; i++)"
    `);
    expect(refused('for (;;) {}')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': the loop may run more than 256 times
       2 | for (;;) {}
         | ^^^^^^^^^^^
         = hint: give it a constant bound: for (let i = 0; i < 8; i++)"
    `);
    expect(refused('while (true) { if (ctx.random() === 0) break; }')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': the loop may run more than 256 times
       2 | while (true) { if (ctx.random() === 0) break; }
         | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: give it a constant bound: for (let i = 0; i < 8; i++)"
    `);
    expect(refused('let i = 0; while (i < 10) {}')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': the loop may run more than 256 times
       2 | let i = 0; while (i < 10) {}
         |            ^^^^^^^^^^^^^^^^^
         = hint: give it a constant bound: for (let i = 0; i < 8; i++)"
    `);
    expect(refused('for (let i = 0; i < 257; i++) {}')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': the loop may run more than 256 times
       2 | for (let i = 0; i < 257; i++) {}
         | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: give it a constant bound: for (let i = 0; i < 8; i++)"
    `);
  });

  test('of kinds that are not part of the language', () => {
    expect(refused('let i = 0; do { i++; } while (i < 3);')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': do … while is not part of the language
       2 | let i = 0; do { i++; } while (i < 3);
         |            ^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: write a for loop with a constant bound"
    `);
    expect(refused('for (const k in list) {}')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': for … in is not part of the language
       2 | for (const k in list) {}
         | ^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: write a for loop with a constant bound"
    `);
    expect(refused('for (const x of limit) {}')).toMatchInlineSnapshot(`
      "stage.ts:2:17: stage 'sample': a number cannot be gone through
       2 | for (const x of limit) {}
         |                 ^^^^^
         = hint: for … of takes a constant array or an array in memory"
    `);
    expect(refused('let x; for (x of list) {}')).toMatchInlineSnapshot(`
      "stage.ts:2:13: stage 'sample': declare the loop variable: for (const x of …)
       2 | let x; for (x of list) {}
         |             ^"
    `);
    expect(refused('const f = ctx.at(F, 0); if (f) for (const x of f.long) {}')).toMatchInlineSnapshot(`
      "stage.ts:2:48: stage 'sample': the array has 300 elements, at most 256 can be gone through
       2 | const f = ctx.at(F, 0); if (f) for (const x of f.long) {}
         |                                                ^^^^^^"
    `);
  });

  test('that grow beyond the kernel', () => {
    const nested =
      'let x = 0; for (let i = 0; i < 200; i++) for (let j = 0; j < 200; j++) x = (x * 3 + ctx.random()) >>> 0; if (x === 1) return ctx.drop();';
    expect(refused(nested)).toMatchInlineSnapshot(`
      "stage.ts:2:58: stage 'sample': the program grows beyond what the kernel takes
       2 | let x = 0; for (let i = 0; i < 200; i++) for (let j = 0; j < 200; j++) x = (x * 3 + ctx.random()) >>> 0; if (x === 1) return ctx.drop();
         |                                                          ^^^^^^^
         = hint: shorten loops or split the stage"
    `);
  });

  test('up to 256 steps are unrolled', () => {
    compileStage(stageOf('let x = 0; for (let i = 0; i < 256; i++) x += i; return x === 32640 ? ctx.drop() : ctx.next();'));
  });
});

test('statements that are not part of the language', () => {
  expect(refused('try { ctx.length; } catch {}')).toMatchInlineSnapshot(`
    "stage.ts:2:1: stage 'sample': programs have no exceptions
     2 | try { ctx.length; } catch {}
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: return a verdict"
  `);
  expect(refused('throw 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:1: stage 'sample': programs have no exceptions
     2 | throw 1;
       | ^^^^^^^^
       = hint: return a verdict"
  `);
  expect(refused('debugger;')).toMatchInlineSnapshot(`
    "stage.ts:2:1: stage 'sample': debugger is not part of the language
     2 | debugger;
       | ^^^^^^^^^"
  `);
  expect(refused('using x = limit;')).toMatchInlineSnapshot(`
    "stage.ts:2:1: stage 'sample': using is not part of the language
     2 | using x = limit;
       | ^^^^^^^^^^^^^^^^
       = hint: write const"
  `);
});

describe('verdicts', () => {
  test('missing on a path', () => {
    expect(refusal('if (ctx.length > 9) return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': a path ends without a verdict
       2 | if (ctx.length > 9) return ctx.drop();
         | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('if (ctx.length > 9) return; return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:21: stage 'sample': a path ends without a verdict
       2 | if (ctx.length > 9) return; return ctx.drop();
         |                     ^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('switch (ctx.length) { case 9: return ctx.drop(); }')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': a path ends without a verdict
       2 | switch (ctx.length) { case 9: return ctx.drop(); }
         | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('for (let i = 0; i < 3; i++) { if (ctx.length === i) return ctx.drop(); }')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': a path ends without a verdict
       2 | for (let i = 0; i < 3; i++) { if (ctx.length === i) return ctx.drop(); }
         | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('')).toMatchInlineSnapshot(`
      "stage.ts:1:2: stage 'sample': a path ends without a verdict
       1 | ((ctx, {  }) => {
         |  ^^^^^^^^^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal(programStage('(ctx) => {}'))).toMatchInlineSnapshot(`
      "stage.ts:1:2: stage 'sample': a path ends without a verdict
       1 | ((ctx) => {})
         |  ^^^^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal(programStage('(ctx) => undefined'))).toMatchInlineSnapshot(`
      "stage.ts:1:11: stage 'sample': a path ends without a verdict
       1 | ((ctx) => undefined)
         |           ^^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
  });

  test('not returned', () => {
    expect(refused('ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': the verdict is not returned
       2 | ctx.drop();
         | ^^^^^^^^^^
         = hint: write return ctx.drop()"
    `);
    expect(refused('if (ctx.length > 9) ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:21: stage 'sample': the verdict is not returned
       2 | if (ctx.length > 9) ctx.drop();
         |                     ^^^^^^^^^^
         = hint: write return ctx.drop()"
    `);
    expect(refused('ctx.length > 9 && ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:19: stage 'sample': the verdict is not returned
       2 | ctx.length > 9 && ctx.drop();
         |                   ^^^^^^^^^^
         = hint: write return ctx.drop()"
    `);
    expect(refused('ctx.exit("a");')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': the verdict is not returned
       2 | ctx.exit("a");
         | ^^^^^^^^^^^^^
         = hint: write return ctx.exit("a")"
    `);
    expect(refused('if (ctx.drop()) return ctx.pass();')).toMatchInlineSnapshot(`
      "stage.ts:2:5: stage 'sample': a verdict as a condition
       2 | if (ctx.drop()) return ctx.pass();
         |     ^^^^^^^^^^
         = hint: return the verdict"
    `);
  });

  test('kept', () => {
    expect(refused('const v = ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': a verdict is kept instead of returned
       2 | const v = ctx.drop();
         |           ^^^^^^^^^^
         = hint: return each verdict where it is decided"
    `);
    expect(refused('let v; v = ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': a verdict is kept instead of returned
       2 | let v; v = ctx.drop();
         |            ^^^^^^^^^^
         = hint: return each verdict where it is decided"
    `);
    expect(refused('const v = ctx.length > 9 ? ctx.drop() : ctx.pass(); return v;')).toMatchInlineSnapshot(`
      "stage.ts:2:60: stage 'sample': it is a different verdict on each path
       2 | const v = ctx.length > 9 ? ctx.drop() : ctx.pass(); return v;
         |                                                            ^
         = hint: return each verdict where it is decided"
    `);
    expect(refused('const v = { out: ctx.drop() }; return v.out;')).toMatchInlineSnapshot(`
      "stage.ts:2:18: stage 'sample': a verdict is kept instead of returned
       2 | const v = { out: ctx.drop() }; return v.out;
         |                  ^^^^^^^^^^
         = hint: return each verdict where it is decided"
    `);
    expect(refused('const v = [ctx.drop()]; return v[0];')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': a verdict is kept instead of returned
       2 | const v = [ctx.drop()]; return v[0];
         |            ^^^^^^^^^^
         = hint: return each verdict where it is decided"
    `);
    expect(refused('const v = { out: 1 }; v.out = ctx.redirect(1); return v.out;')).toMatchInlineSnapshot(`
      "stage.ts:2:31: stage 'sample': a verdict is kept instead of returned
       2 | const v = { out: 1 }; v.out = ctx.redirect(1); return v.out;
         |                               ^^^^^^^^^^^^^^^
         = hint: return each verdict where it is decided"
    `);
    expect(refused('return same(ctx.redirect(1));')).toMatchInlineSnapshot(`
      "stage.ts:2:13: stage 'sample': a verdict is kept instead of returned
       2 | return same(ctx.redirect(1));
         |             ^^^^^^^^^^^^^^^
         = hint: return each verdict where it is decided"
    `);
  });

  test('that are none', () => {
    expect(refusal('return 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': a number is returned, expected a verdict
       2 | return 1;
         |        ^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('return true;')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': a boolean is returned, expected a verdict
       2 | return true;
         |        ^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('return ctx;')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': ctx is returned, expected a verdict
       2 | return ctx;
         |        ^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('return ctx.drop;')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': 'drop' is returned, expected a verdict
       2 | return ctx.drop;
         |        ^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('return ctx.ipv4();')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': a reference that may be undefined is returned, expected a verdict
       2 | return ctx.ipv4();
         |        ^^^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('return ctx.length > 9 ? 2 : ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:25: stage 'sample': a number is returned, expected a verdict
       2 | return ctx.length > 9 ? 2 : ctx.drop();
         |                         ^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    expect(refusal('return ctx.length > 9 && ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': it is a boolean on one path and a verdict on another
       2 | return ctx.length > 9 && ctx.drop();
         |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: return each verdict where it is decided"
    `);
    expect(refusal('return "drop";')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': a string is returned, expected a verdict
       2 | return "drop";
         |        ^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
  });

  test('in fns', () => {
    const leave = fn([u32], u32, (x) => (x > 1 ? 2 : 3));
    expect(refusal('return leave(1);', { uses: { leave } })).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': a number is returned, expected a verdict
       2 | return leave(1);
         |        ^^^^^^^^
         = hint: return ctx.next(), ctx.drop(), …"
    `);
    const silent = fn([u32], nothing, (x) => {
      if (x > 1) return 1 as never;
    });
    expect(refusal('const x = silent(ctx.length) + 1; return ctx.next();', { uses: { silent } })).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': it is a number on one path and undefined on another
       2 | const x = silent(ctx.length) + 1; return ctx.next();
         |           ^^^^^^^^^^^^^^^^^^^^^^
         = hint: give it a value on every path"
    `);
  });
});

test('labels', () => {
  expect(refusal('return ctx.exit();')).toMatchInlineSnapshot(`
    "stage.ts:2:8: stage 'sample': a label must be a literal
     2 | return ctx.exit();
       |        ^^^^^^^^^^
       = hint: write ctx.exit('name')"
  `);
  expect(refusal('return ctx.exit(5);')).toMatchInlineSnapshot(`
    "stage.ts:2:8: stage 'sample': a label must be a literal
     2 | return ctx.exit(5);
       |        ^^^^^^^^^^^
       = hint: write ctx.exit('name')"
  `);
  expect(refusal('const l = ctx.length > 9 ? "a" : "b"; return ctx.exit(l);')).toMatchInlineSnapshot(`
    "stage.ts:2:46: stage 'sample': a label must be a literal
     2 | const l = ctx.length > 9 ? "a" : "b"; return ctx.exit(l);
       |                                              ^^^^^^^^^^^
       = hint: write ctx.exit('name')"
  `);
});
