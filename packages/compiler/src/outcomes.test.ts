/** What is known of a packet on each of a stage's ways out. */
import { array, be32, type Hook, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { compileStage, outcomesOf, reasonsOf } from './compile.ts';
import { CompileError } from './diagnostic.ts';
import { refusal, stageOf, type TextOptions } from './fixture.ts';

const flow = struct({ a: u8, b: u32, inner: struct({ x: u16, y: u8 }) });
const both = ['xdp', 'tcIngress'] as const satisfies readonly Hook[];
const writesOf = (hook: Hook, body: string, options: TextOptions) => outcomesOf(stageOf(body, { hook, ...options })).writes;

test.each(both)('the ways out, at %s', (hook) => {
  const body = `const ip = ctx.ipv4();
    if (!ip) return ctx.drop();
    if (ip.ttl === 1) return ctx.exit('expired');
    if (ip.ttl === 2) return ctx.redirect(4);
    return ip.ttl === 3 ? ctx.pass() : ctx.next();`;
  expect(outcomesOf(stageOf(body, { hook }))).toEqual({
    exits: ['expired'],
    next: true,
    reasons: [],
    verdicts: ['drop', 'redirect', 'pass'],
    writes: { drop: [], 'exit:expired': [], redirect: [], pass: [], next: [] },
  });
  expect(outcomesOf(stageOf('return ctx.pass();', { hook }))).toEqual({
    exits: [],
    next: false,
    reasons: [],
    verdicts: ['pass'],
    writes: { pass: [] },
  });
});

test.each(both)('fields that every path has written, at %s', (hook) => {
  const writes = { a: u32, b: u8, c: be32 };
  const body = `ctx.meta.a = 1;
    const ip = ctx.ipv4(); if (!ip) return ctx.next();
    ctx.meta.b = ip.ttl;
    if (ip.ttl > 5) { ctx.meta.c = ip.saddr; } else if (ip.ttl > 3) { ctx.meta.c = ip.daddr; } else { return ctx.exit('low'); }
    return ip.ttl > 100 ? ctx.next() : ctx.pass();`;
  expect(writesOf(hook, body, { writes })).toEqual({ next: ['a'], pass: ['a', 'b', 'c'], 'exit:low': ['a', 'b'] });
});

test.each(both)('a struct counts when all of it is written, padding aside, at %s', (hook) => {
  const writes = { flow };
  const of = (body: string) => writesOf(hook, `${body} return ctx.next();`, { writes }).next;
  expect(of('ctx.meta.flow = { a: 1, b: 2, inner: { x: 3, y: 4 } };')).toEqual(['flow']);
  expect(of('ctx.meta.flow.a = 1; ctx.meta.flow.b = 1; ctx.meta.flow.inner.x = 1; ctx.meta.flow.inner.y = 1;')).toEqual(['flow']);
  expect(of('ctx.meta.flow.a = 1; ctx.meta.flow.b = 1; ctx.meta.flow.inner.x = 1;')).toEqual([]);
  expect(of('const f = ctx.meta.flow; f.a = 1; f.b = 1; f.inner = { x: 1, y: 1 };')).toEqual(['flow']);
  expect(of('if (ctx.length > 60) { ctx.meta.flow.a = 1; } ctx.meta.flow.b = 1; ctx.meta.flow.inner = { x: 1, y: 1 };')).toEqual([]);
});

test.each(both)('arrays, loops and fields that are changed in place, at %s', (hook) => {
  const list = { list: array(u16, 3) };
  expect(writesOf(hook, 'for (let i = 0; i < 3; i++) ctx.meta.list[i] = i; return ctx.next();', { writes: list }).next).toEqual(['list']);
  expect(writesOf(hook, 'for (let i = 0; i < 2; i++) ctx.meta.list[i] = i; return ctx.next();', { writes: list }).next).toEqual([]);
  expect(writesOf(hook, 'ctx.meta.n += 1n; return ctx.next();', { writes: { n: u64 } }).next).toEqual(['n']);
});

test('written where the state was looked up on each path', () => {
  const body = 'if (ctx.length > 60) { ctx.meta.a = 1; } else { ctx.meta.b = 1; } ctx.meta.a = 3; ctx.meta.b = 4; return ctx.next();';
  expect(writesOf('xdp', body, { writes: { a: u32, b: u32 } }).next).toEqual(['a', 'b']);
});

test('a label that no path reaches has all fields', () => {
  const body = "if (ctx.length > 5) return ctx.next(); return ctx.next(); return ctx.exit('never');";
  expect(outcomesOf(stageOf(body, { writes: { a: u32 } }))).toEqual({
    exits: ['never'],
    next: true,
    reasons: [],
    verdicts: [],
    writes: { next: [], 'exit:never': ['a'] },
  });
});

test('the same stage gives the same object', () => {
  const subject = stageOf('return ctx.next();');
  expect(outcomesOf(subject)).toBe(outcomesOf(subject));
  expect(() => outcomesOf(stageOf('return missing;'))).toThrow(CompileError);
});

describe('reasons', () => {
  const body = `const ip = ctx.ipv4();
    if (!ip) return ctx.drop('no IP: none');
    if (ip.ttl === 0) return ctx.abort('dead');
    return ip.ttl > 9 ? ctx.next() : ctx.drop(ip.ttl > 4 ? 'old' : 'ancient');`;

  test('of drops and aborts, whose verdicts they do not change', () => {
    const subject = stageOf(body);
    const reasons = ['abort:dead', 'drop:ancient', 'drop:no IP: none', 'drop:old'];
    expect(reasonsOf(subject)).toEqual(reasons);
    expect(outcomesOf(subject)).toEqual({
      exits: [],
      next: true,
      reasons,
      verdicts: ['drop', 'abort'],
      writes: { drop: [], abort: [], next: [] },
    });
  });

  test('that only the lowering knows', () => {
    expect(reasonsOf(stageOf('return ctx.drop(why);', { uses: { why: 'late' } }))).toEqual(['drop:late']);
    expect(reasonsOf(stageOf('const { drop } = ctx; return ctx.length > 5 ? ctx.pass() : ctx.drop(undefined);'))).toEqual([]);
  });

  test('make no difference where nothing counts them, and need a counter where something does', () => {
    const plain = body.replaceAll(/(drop|abort)\(['"][^)]*\)/g, '$1()').replace("ctx.drop(ip.ttl > 4 ? 'old' : 'ancient')", 'ctx.drop()');
    expect(compileStage(stageOf(body)).program.instructions).toEqual(compileStage(stageOf(plain)).program.instructions);
    const placement = { array: 'a', next: { verdict: 'pass' }, exits: {}, state: { map: 's', length: 0, counters: 16 } } as const;
    expect(() => compileStage(stageOf(body), { placement: { ...placement, reasons: ['drop:old'] } })).toThrow(
      "the placement of 'sample' has no reason 'drop:no IP: none'",
    );
  });

  test('are literals', () => {
    expect(refusal('return ctx.drop(ctx.length);')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': a reason must be a literal
       2 | return ctx.drop(ctx.length);
         |        ^^^^^^^^^^^^^^^^^^^^
         = hint: write ctx.drop('reason')"
    `);
    expect(refusal("return ctx.abort('');")).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': a reason must be a literal
       2 | return ctx.abort('');
         |        ^^^^^^^^^^^^^
         = hint: write ctx.abort('reason')"
    `);
  });
});
