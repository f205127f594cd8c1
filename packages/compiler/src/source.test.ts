import { createRequire } from 'node:module';
import { disassemble } from '@tailrace/bpf';
import { type AnyStage, array, fn, hash, ipv4Prefix, lpmTrie, packed, stage, struct, u8, u32, u64 } from '@tailrace/stage';
import { parse } from 'acorn';
import { describe, expect, test } from 'vitest';
import { compileStage } from './compile.ts';
import { functionOf, programStage, refusal } from './fixture.ts';

const blocked = lpmTrie({ name: 'blocked', key: ipv4Prefix, value: u64, maxEntries: 10 });
const flows = hash({
  name: 'flows',
  key: struct({ a: u32, b: u32, port: u32 }),
  value: struct({ packets: u64, last: u8 }),
  maxEntries: 10,
});
const List = packed({ n: u8, items: array(u8, 8) });
const twice = fn([u32], u32, (x) => x * 2);
const uses = {
  blocked,
  flows,
  List,
  twice,
  minTtl: 2,
  rules: [
    { port: 80, out: 'web' },
    { port: 53, out: 'dns' },
  ],
};

const bytecode = (subject: AnyStage): string => disassemble(compileStage(subject).program.instructions);
const compiled = (text: string): string => bytecode(programStage(text, { uses }));

/** Bodies with all that tools like to rewrite. */
const bodies: Readonly<Record<string, string>> = {
  acl: `
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    if (ip.ttl < minTtl) return ctx.exit('expired');
    const hits = blocked.lookup({ prefixLen: 32, addr: ip.saddr });
    if (hits) {
      hits.value += 1n;
      return ctx.drop();
    }
    return ctx.next();`,
  flows: `
    const ip = ctx.ipv4();
    const ports = ctx.ports();
    if (ip === undefined || ports === undefined) return ctx.pass();
    const key = { a: ip.saddr, b: ip.daddr, port: ports.dport };
    const flow = flows.lookup(key);
    if (flow) {
      flow.packets += 1n;
      flow.last = ip.ttl;
    } else {
      flows.update(key, { packets: 1n, last: ip.ttl });
    }
    let out = 0;
    if (ports.dport > 1023) {
      out = twice(ports.sport);
    } else if (ports.dport === 22 || ports.dport === 23) {
      return ctx.drop();
    }
    if (out === 44) return ctx.tx();
    return ctx.next();`,
  loops: `
    const list = ctx.at(List, 14);
    if (!list) return ctx.drop();
    let sum = 0;
    for (let i = 0; i < 8; i++) {
      if (i >= list.n) break;
      if (list.items[i] === 0) continue;
      sum += list.items[i];
    }
    switch (sum & 3) {
      case 0:
        return ctx.exit('zero');
      case 1:
        sum *= 2;
      case 2:
        sum += 1;
        break;
      default:
        return sum > 100 ? ctx.drop() : ctx.pass();
    }
    for (const { port, out } of rules) {
      if (sum === port) return out === 'web' ? ctx.exit('web') : ctx.exit('dns');
    }
    const even = sum % 2 === 0 && list.n > 3;
    return even ? ctx.tx() : ctx.next();`,
};
const program = (body: string): string => `({ program(ctx, { blocked, flows, List, twice, minTtl, rules }) {${body}\n} }).program`;

describe('a function is the same in whatever form it stands', () => {
  const body = bodies.acl ?? '';
  const parameters = '(ctx, { blocked, minTtl })';
  test.each([
    ['a method', `({ program${parameters} {${body}} }).program`],
    ['a quoted method', `({ 'the program'${parameters} {${body}} })['the program']`],
    ['a computed method', `({ ['pro' + 'gram']${parameters} {${body}} }).program`],
    ['a numeric method', `({ 7${parameters} {${body}} })[7]`],
    ['a static method', `(class { static program${parameters} {${body}} }).program`],
    ['an arrow', `${parameters} => {${body}}`],
    ['a function', `function ${parameters} {${body}}`],
    ['a named function', `function acl${parameters} {${body}}`],
    ['a function behind comments', `/* one */ function /* two */ acl // three\n ${parameters} { // four\n${body} /* five */ }`],
    ['a getter', `Object.getOwnPropertyDescriptor({ get program() {${body}} }, 'program').get`],
    ['a method called get', `({ get${parameters} {${body}} }).get`],
    ['a method called async', `({ async${parameters} {${body}} }).async`],
    ['a bag that is not taken apart', `(ctx, uses) => {${body.replaceAll(/\b(blocked|minTtl)\b/g, 'uses.$1')}}`],
    [
      'a bag under other names',
      `(c, { blocked: a, minTtl: b }) => {${body.replaceAll('blocked', 'a').replaceAll('minTtl', 'b').replaceAll('ctx', 'c')}}`,
    ],
  ])('%s', (name, text) => {
    if (name === 'a getter') expect(refusal(programStage(text, { uses }))).toContain("'ctx' comes from outside the program");
    else expect(compiled(text)).toBe(compiled(`(ctx, { blocked, minTtl }) => {${body}}`));
  });

  test('an expression', () => {
    expect(compiled('(ctx) => ctx.drop()')).toBe(compiled('(ctx) => { return ctx.drop(); }'));
    expect(compiled('ctx => ctx.length > 99 ? ctx.drop() : ctx.pass()')).toBe(
      compiled('(ctx) => { if (ctx.length > 99) return ctx.drop(); return ctx.pass(); }'),
    );
  });
});

test('functions without a readable source are refused', () => {
  const refused = (text: string): string => refusal(programStage(text));
  expect(refused('(function (ctx) { return ctx.drop(); }).bind(undefined)')).toMatchInlineSnapshot(`
    "stage 'sample': the program is a native or bound function
      hint: pass the function itself"
  `);
  expect(refused('Math.max')).toMatchInlineSnapshot(`
    "stage 'sample': the program is a native or bound function
      hint: pass the function itself"
  `);
  expect(refused('async (ctx) => ctx.drop()')).toMatchInlineSnapshot(`
    "stage.ts:1:2: stage 'sample': the program is async
     1 | (async (ctx) => ctx.drop())
       |  ^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: a program runs to its verdict in one go"
  `);
  expect(refused('({ async program(ctx) { return ctx.drop(); } }).program')).toMatchInlineSnapshot(`
    "stage.ts:1:5: stage 'sample': the program is async
     1 | (({ async program(ctx) { return ctx.drop(); } }).program)
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: a program runs to its verdict in one go"
  `);
  expect(refused('function* (ctx) { return ctx.drop(); }')).toMatchInlineSnapshot(`
    "stage.ts:1:2: stage 'sample': the program is a generator
     1 | (function* (ctx) { return ctx.drop(); })
       |  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: a program runs to its verdict in one go"
  `);
  expect(refused('({ *program(ctx) { yield 1; } }).program')).toMatchInlineSnapshot(`
    "stage.ts:1:5: stage 'sample': the program is a generator
     1 | (({ *program(ctx) { yield 1; } }).program)
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: a program runs to its verdict in one go"
  `);
  expect(refused('async function* (ctx) {}')).toMatchInlineSnapshot(`
    "stage.ts:1:2: stage 'sample': the program is async
     1 | (async function* (ctx) {})
       |  ^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: a program runs to its verdict in one go"
  `);
  expect(refused('class Program {}')).toMatchInlineSnapshot(`
    "stage 'sample': the source of the program cannot be parsed
      hint: write it as a function, an arrow or a method"
  `);
  expect(refused('(class { static #p(ctx) { return ctx.drop(); } static get() { return this.#p; } }).get()')).toMatchInlineSnapshot(`
    "stage 'sample': the source of the program cannot be parsed
      hint: write it as a function, an arrow or a method"
  `);
  expect(refused('new Proxy((ctx) => ctx.drop(), {})')).toMatchInlineSnapshot(`
    "stage 'sample': the program is a native or bound function
      hint: pass the function itself"
  `);
  expect(refused('async (ctx) => { await ctx.drop(); }')).toMatchInlineSnapshot(`
    "stage.ts:1:2: stage 'sample': the program is async
     1 | (async (ctx) => { await ctx.drop(); })
       |  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: a program runs to its verdict in one go"
  `);
});

describe('what tools make of a function compiles to the same bytecode', () => {
  const fromRoot = createRequire(import.meta.url);
  const vitePath = createRequire(fromRoot.resolve('vitest/package.json')).resolve('vite');

  test.each(Object.entries(bodies))('%s: the minifier of rolldown', async (_name, body) => {
    const { minifySync } = (await import(vitePath)) as { minifySync(file: string, text: string, options: object): { code: string } };
    const text = program(body);
    for (const options of [
      { mangle: true, compress: true },
      { mangle: true, compress: false },
      { mangle: false, compress: true },
      { mangle: true, compress: { target: 'es2020' } },
    ]) {
      const { code } = minifySync('stage.js', `globalThis.x = ${text};`, options);
      const minified = code.replace(/^globalThis\.x=|;\s*$/g, '');
      expect(compiled(minified), minified).toBe(compiled(text));
    }
  });

  test.each(Object.entries(bodies))('%s: coverage counters', (_name, body) => {
    const text = program(body);
    const counted = instrumented(text);
    expect(counted).toContain('cov_1abc().s[');
    expect(compiled(counted)).toBe(compiled(text));
  });

  test.each([
    ['kept names', '(ctx) => { __name(program, "program"); return ctx.drop(); }', '(ctx) => ctx.drop()'],
    [
      'calls through a comma',
      '(ctx, { twice }) => (0, twice)(ctx.length) > 99 ? ctx.drop() : (0, ctx.pass)()',
      '(ctx, { twice }) => twice(ctx.length) > 99 ? ctx.drop() : ctx.pass()',
    ],
    ['void 0', '(ctx) => ctx.ipv4() === void 0 ? ctx.drop() : ctx.pass()', '(ctx) => ctx.ipv4() === undefined ? ctx.drop() : ctx.pass()'],
    [
      '!0 and !1',
      '(ctx) => { let on = !1; if (ctx.length > 9) on = !0; return on === !0 ? ctx.drop() : ctx.pass(); }',
      '(ctx) => { let on = false; if (ctx.length > 9) on = true; return on === true ? ctx.drop() : ctx.pass(); }',
    ],
    ['a directive', '(ctx) => { "use strict"; return ctx.drop(); }', '(ctx) => ctx.drop()'],
    [
      'commas and inverted returns',
      '(ctx, { minTtl: t }) => { let n, e = ctx.ipv4(); return !e || (n = e.ttl, n >= t) ? ctx.next() : (e.ttl = 0, ctx.tx()) }',
      '(ctx, { minTtl }) => { const ip = ctx.ipv4(); if (!ip) return ctx.next(); const ttl = ip.ttl; if (ttl >= minTtl) return ctx.next(); ip.ttl = 0; return ctx.tx(); }',
    ],
    [
      'statements as expressions',
      '(ctx) => { let n = 0; return ctx.length > 9 && (n = 1), ctx.length > 99 || (n += 2), n === 3 ? ctx.drop() : ctx.pass() }',
      '(ctx) => { let n = 0; if (ctx.length > 9) n = 1; if (!(ctx.length > 99)) n += 2; if (n === 3) return ctx.drop(); return ctx.pass(); }',
    ],
    [
      'one exit with two labels',
      '(ctx) => ctx.exit(ctx.length > 9 ? "long" : ctx.length > 5 ? "middle" : "short")',
      '(ctx) => { if (ctx.length > 9) return ctx.exit("long"); if (ctx.length > 5) return ctx.exit("middle"); return ctx.exit("short"); }',
    ],
    ['constants folded', '(ctx) => ctx.length > 1024 ? ctx.drop() : ctx.pass()', '(ctx) => ctx.length > 4 * 256 ? ctx.drop() : ctx.pass()'],
    ['swapped comparisons', '(ctx) => 99 < ctx.length ? ctx.drop() : ctx.pass()', '(ctx) => ctx.length > 99 ? ctx.drop() : ctx.pass()'],
    [
      'exponents and hexadecimal',
      '(ctx) => ctx.length > 1e3 && ctx.length < 0xfff ? ctx.drop() : ctx.pass()',
      '(ctx) => ctx.length > 1000 && ctx.length < 4095 ? ctx.drop() : ctx.pass()',
    ],
    ['templates as labels', '(ctx) => ctx.exit(`long`)', '(ctx) => ctx.exit("long")'],
    [
      'var for let',
      '(ctx) => { var i, n = 0; for (i = 0; i < 3; i++) { var k = i * 2; n += k } return n === 6 ? ctx.drop() : ctx.pass() }',
      '(ctx) => { let n = 0; for (let i = 0; i < 3; i++) { const k = i * 2; n += k; } if (n === 6) return ctx.drop(); return ctx.pass(); }',
    ],
  ])('%s', (_name, rewritten, written) => {
    expect(compiled(rewritten)).toBe(compiled(written));
  });
});

test('compiling twice gives the same bytes, lines and maps', () => {
  const make = (): AnyStage =>
    stage({ name: 'again', hook: 'xdp', uses, writes: { mark: u32 }, program: functionOf(program(`${bodies.flows}`)) as never });
  const first = compileStage(make());
  const second = compileStage(make());
  expect(second).toEqual(first);
  expect([...second.maps.keys()]).toEqual([...first.maps.keys()]);
  expect(compileStage(programStage(program(bodies.loops ?? ''), { uses })).program).toEqual(
    compileStage(programStage(program(bodies.loops ?? ''), { uses })).program,
  );
});

/** Counters before statements and in branches, as istanbul puts them. */
function instrumented(text: string): string {
  type Loose = { readonly type: string; readonly start: number; readonly end: number } & Record<string, unknown>;
  const inserts: { at: number; text: string; order: number }[] = [];
  const insert = (at: number, added: string): void => void inserts.push({ at, text: added, order: inserts.length });
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(visit);
    if (typeof value !== 'object' || value === null) return;
    const node = value as Loose;
    if (node.type === 'BlockStatement' || node.type === 'SwitchCase') {
      for (const child of (node.body ?? node.consequent) as Loose[]) insert(child.start, `cov_1abc().s[${inserts.length}]++;`);
    }
    if (node.type === 'IfStatement') {
      const branch = node.consequent as Loose;
      if (branch.type !== 'BlockStatement') {
        insert(branch.start, `{cov_1abc().b[${inserts.length}][0]++;cov_1abc().s[1]++;`);
        inserts.push({ at: branch.end, text: '}', order: -1 });
      }
    }
    const wrap = (part: Loose): void => {
      insert(part.start, `(cov_1abc().b[${inserts.length}][1]++, `);
      inserts.push({ at: part.end, text: ')', order: -1 });
    };
    if (node.type === 'ConditionalExpression') for (const part of [node.consequent, node.alternate]) wrap(part as Loose);
    if (node.type === 'LogicalExpression') for (const part of [node.left, node.right]) wrap(part as Loose);
    Object.values(node).forEach(visit);
  };
  visit(parse(text, { ecmaVersion: 'latest' }));
  let out = text;
  for (const { at, text: added } of inserts.sort((a, b) => b.at - a.at || b.order - a.order))
    out = out.slice(0, at) + added + out.slice(at);
  return out;
}
