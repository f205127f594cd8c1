import { fn, hash, struct, u8, u32, u64 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { programStage, refusal, stageOf } from '../fixture.ts';

const counts = hash({ name: 'counts', key: u32, value: u64, maxEntries: 10 });
const Pair = struct({ first: u8, second: u32 });
const uses = { counts, Pair, limit: 5, config: { ttl: 64, nested: { deep: 1 } }, list: [1, 2, 3] };
const refused = (body: string): string => refusal(`${body}\nreturn ctx.next();`, { uses });

describe('names', () => {
  test('from outside the program', () => {
    expect(refused('const x = threshold + 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': 'threshold' comes from outside the program
       2 | const x = threshold + 1;
         |           ^^^^^^^^^
         = hint: a program sees only its parameters: add it to uses: { threshold } and take it from the second parameter"
    `);
    expect(refused('console.log(limit);')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': 'console' is a global that programs do not have
       2 | console.log(limit);
         | ^^^^^^^
         = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
    `);
    expect(refused('const now = Date.now();')).toMatchInlineSnapshot(`
      "stage.ts:2:13: stage 'sample': 'Date' is a global that programs do not have
       2 | const now = Date.now();
         |             ^^^^
         = hint: use ctx.now()"
    `);
    expect(refused('const x = globalThis;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': 'globalThis' is a global that programs do not have
       2 | const x = globalThis;
         |           ^^^^^^^^^^
         = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
    `);
    expect(refused('const x = NaN;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': 'NaN' is a global that programs do not have
       2 | const x = NaN;
         |           ^^^
         = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
    `);
    expect(refused('const m = Math;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': 'Math' can only be called
       2 | const m = Math;
         |           ^^^^
         = hint: allowed: Math.trunc, Math.min, Math.max, Math.imul, Math.clz32, BigInt, BigInt.asUintN, BigInt.asIntN, Number"
    `);
    expect(refused('total = 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': 'total' comes from outside the program
       2 | total = 1;
         | ^^^^^
         = hint: declare it with let"
    `);
    expect(refused('total += 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': 'total' comes from outside the program
       2 | total += 1;
         | ^^^^^
         = hint: a program sees only its parameters: add it to uses: { total } and take it from the second parameter"
    `);
    expect(refused('if (ctx.length > 9) { const inner = 1; } const x = inner;')).toMatchInlineSnapshot(`
      "stage.ts:2:52: stage 'sample': 'inner' comes from outside the program
       2 | if (ctx.length > 9) { const inner = 1; } const x = inner;
         |                                                    ^^^^^
         = hint: a program sees only its parameters: add it to uses: { inner } and take it from the second parameter"
    `);
  });

  test('before they have a value', () => {
    expect(refused('let x; if (ctx.length > 9) { let y = 1; x = y; } const z = x + 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:60: stage 'sample': it is a number on one path and undefined on another
       2 | let x; if (ctx.length > 9) { let y = 1; x = y; } const z = x + 1;
         |                                                            ^^^^^
         = hint: give it a value on every path"
    `);
    expect(refused('switch (ctx.length) { case 1: let k = 1; break; case 2: const z = k; }')).toMatchInlineSnapshot(`
      "stage.ts:2:67: stage 'sample': 'k' is used before it has a value
       2 | switch (ctx.length) { case 1: let k = 1; break; case 2: const z = k; }
         |                                                                   ^"
    `);
  });

  test('that are constant', () => {
    expect(refused('const x = 1; x = 2;')).toMatchInlineSnapshot(`
      "stage.ts:2:14: stage 'sample': 'x' is a constant
       2 | const x = 1; x = 2;
         |              ^
         = hint: declare it with let"
    `);
    expect(refused('for (const x of list) x++;')).toMatchInlineSnapshot(`
      "stage.ts:2:23: stage 'sample': 'x' is a constant
       2 | for (const x of list) x++;
         |                       ^
         = hint: declare it with let"
    `);
  });

  test('misspelt', () => {
    expect(refused('const ip = ctx.ipv5();')).toMatchInlineSnapshot(`
      "stage.ts:2:16: stage 'sample': ctx has no member 'ipv5'
       2 | const ip = ctx.ipv5();
         |                ^^^^
         = hint: did you mean 'ipv4'?"
    `);
    expect(refused('return ctx.dropp();')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': ctx has no member 'dropp'
       2 | return ctx.dropp();
         |            ^^^^^
         = hint: did you mean 'drop'?"
    `);
    expect(refused('const x = ctx.mark;')).toMatchInlineSnapshot(`
      "stage.ts:2:15: stage 'sample': ctx.mark is not there at xdp
       2 | const x = ctx.mark;
         |               ^^^^
         = hint: tell later stages by ctx.meta"
    `);
    expect(refused('const x = ctx.toString();')).toMatchInlineSnapshot(`
      "stage.ts:2:15: stage 'sample': ctx has no member 'toString'
       2 | const x = ctx.toString();
         |               ^^^^^^^^
         = hint: there are: length, meta, ingressIfindex, rxQueue, ethernet, arp, ipv4, ipv6, ipv6Fragment, tcp, udp, icmp, icmpv6, ports, gre, at, offsetOf, checksum, checksumReplace, vxlan, gue, protocol, fragment, vlanTags, vlanTci, innerVlanTci, pushVlan, popVlan, updateChecksum, next, exit, pass, drop, tx, abort, redirect, adjustHead, adjustTail, now, nowCoarse, random, cpu"
    `);
    expect(refused('const ip = ctx.ipv4(); if (!ip) return ctx.drop(); ip.tttl = 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:55: stage 'sample': no field 'tttl'
       2 | const ip = ctx.ipv4(); if (!ip) return ctx.drop(); ip.tttl = 1;
         |                                                       ^^^^
         = hint: did you mean 'ttl'?"
    `);
    expect(refused('const ip = ctx.ipv4(); if (!ip) return ctx.drop(); const x = ip.source;')).toMatchInlineSnapshot(`
      "stage.ts:2:65: stage 'sample': no field 'source'
       2 | const ip = ctx.ipv4(); if (!ip) return ctx.drop(); const x = ip.source;
         |                                                                 ^^^^^^
         = hint: there are: versionIhl, tos, totalLength, id, flagsFragment, ttl, protocol, checksum, saddr, daddr, version, ihl, headerLength, fragmentOffset, moreFragments, dontFragment"
    `);
    expect(refused('const x = config.tll;')).toMatchInlineSnapshot(`
      "stage.ts:2:18: stage 'sample': 'config' has no 'tll'
       2 | const x = config.tll;
         |                  ^^^
         = hint: did you mean 'ttl'?"
    `);
    expect(refused('const x = config.nested.constructor;')).toMatchInlineSnapshot(`
      "stage.ts:2:25: stage 'sample': 'config.nested' has no 'constructor'
       2 | const x = config.nested.constructor;
         |                         ^^^^^^^^^^^
         = hint: there are: deep"
    `);
    expect(refused('const key = { a: 1 }; const x = key.b;')).toMatchInlineSnapshot(`
      "stage.ts:2:37: stage 'sample': the object has no field 'b'
       2 | const key = { a: 1 }; const x = key.b;
         |                                     ^
         = hint: did you mean 'a'?"
    `);
    expect(refused('const key = { a: 1 }; key.b = 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:27: stage 'sample': the object has no field 'b'
       2 | const key = { a: 1 }; key.b = 1;
         |                           ^
         = hint: did you mean 'a'?"
    `);
    expect(refused('counts.lookUp(1);')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': map 'counts' has no method 'lookUp'
       2 | counts.lookUp(1);
         |        ^^^^^^
         = hint: did you mean 'lookup'?"
    `);
    expect(refused('const size = counts.size;')).toMatchInlineSnapshot(`
      "stage.ts:2:21: stage 'sample': map 'counts' has no method 'size'
       2 | const size = counts.size;
         |                     ^^^^
         = hint: there are: lookup, update, delete"
    `);
    expect(refusal(programStage('(ctx, uses) => { const x = uses.conts; return ctx.next(); }', { uses }))).toMatchInlineSnapshot(`
      "stage.ts:1:34: stage 'sample': the second parameter has no 'conts'
       1 | ((ctx, uses) => { const x = uses.conts; return ctx.next(); })
         |                                  ^^^^^
         = hint: did you mean 'counts'?"
    `);
    expect(refusal(programStage('(ctx, { conts }) => ctx.next()', { uses }))).toMatchInlineSnapshot(`
      "stage.ts:1:10: stage 'sample': the second parameter has no 'conts'
       1 | ((ctx, { conts }) => ctx.next())
         |          ^^^^^
         = hint: did you mean 'counts'?"
    `);
  });
});

test('what may be undefined', () => {
  expect(refused('const ip = ctx.ipv4(); const x = ip.ttl;')).toMatchInlineSnapshot(`
    "stage.ts:2:34: stage 'sample': 'ip' may be undefined here
     2 | const ip = ctx.ipv4(); const x = ip.ttl;
       |                                  ^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('const hits = counts.lookup(1); hits.value += 1n;')).toMatchInlineSnapshot(`
    "stage.ts:2:32: stage 'sample': 'hits' may be undefined here
     2 | const hits = counts.lookup(1); hits.value += 1n;
       |                                ^^^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('const x = ctx.tcp().syn;')).toMatchInlineSnapshot(`
    "stage.ts:2:11: stage 'sample': 'ctx.tcp()' may be undefined here
     2 | const x = ctx.tcp().syn;
       |           ^^^^^^^^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('const ip = ctx.ipv4(); if (ctx.length > 60 && !ip) return ctx.next(); ip.ttl = 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:71: stage 'sample': 'ip' may be undefined here
     2 | const ip = ctx.ipv4(); if (ctx.length > 60 && !ip) return ctx.next(); ip.ttl = 1;
       |                                                                       ^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('const ip = ctx.ipv4(); if (!ip) { ip.ttl = 1; }')).toMatchInlineSnapshot(`
    "stage.ts:2:35: stage 'sample': 'ip' is undefined here
     2 | const ip = ctx.ipv4(); if (!ip) { ip.ttl = 1; }
       |                                   ^^"
  `);
  expect(
    refused('let hits = counts.lookup(1); if (!hits) return ctx.drop(); if (ctx.length > 99) hits = counts.lookup(2); hits.value = 1n;'),
  ).toMatchInlineSnapshot(`
    "stage.ts:2:106: stage 'sample': 'hits' may be undefined here
     2 | let hits = counts.lookup(1); if (!hits) return ctx.drop(); if (ctx.length > 99) hits = counts.lookup(2); hits.value = 1n;
       |                                                                                                          ^^^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('const { ttl } = ctx.ipv4();')).toMatchInlineSnapshot(`
    "stage.ts:2:17: stage 'sample': 'ctx.ipv4()' may be undefined here
     2 | const { ttl } = ctx.ipv4();
       |                 ^^^^^^^^^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('const ip = ctx.ipv4(); if (ip?.ttl === 1) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:2:28: stage 'sample': optional chaining gives a value or undefined
     2 | const ip = ctx.ipv4(); if (ip?.ttl === 1) return ctx.drop();
       |                            ^^^^^^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('const x = ctx.ipv4()?.ttl ?? 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:11: stage 'sample': optional chaining gives a value or undefined
     2 | const x = ctx.ipv4()?.ttl ?? 1;
       |           ^^^^^^^^^^^^^^^
       = hint: test it first: if (!x) return …"
  `);
  expect(refused('const ip = ctx.ipv4(); const x = ip && ip.ttl > 3; if (x) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:2:56: stage 'sample': it is undefined on one path and a boolean on another
     2 | const ip = ctx.ipv4(); const x = ip && ip.ttl > 3; if (x) return ctx.drop();
       |                                                        ^
       = hint: give it a value on every path"
  `);
});

test('values that differ by path', () => {
  expect(refused('let x = 1; if (ctx.length > 9) x = 2n; const y = x + 1;')).toMatchInlineSnapshot(`
    "stage.ts:2:50: stage 'sample': it is a bigint on one path and a number on another
     2 | let x = 1; if (ctx.length > 9) x = 2n; const y = x + 1;
       |                                                  ^^^^^"
  `);
  expect(refused('let x = { a: 1 }; if (ctx.length > 9) x = { a: 2 }; const y = x.a;')).toMatchInlineSnapshot(`
    "stage.ts:2:63: stage 'sample': it is a different object literal on each path
     2 | let x = { a: 1 }; if (ctx.length > 9) x = { a: 2 }; const y = x.a;
       |                                                               ^
       = hint: choose the fields, not the object"
  `);
  expect(refused('let x = ctx.ipv4(); if (ctx.length > 9) x = ctx.ipv6(); if (x) return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:2:61: stage 'sample': it refers to different layouts on different paths
     2 | let x = ctx.ipv4(); if (ctx.length > 9) x = ctx.ipv6(); if (x) return ctx.drop();
       |                                                             ^"
  `);
  expect(refused('let x; if (ctx.length > 9) x = 1; const y = x * 2;')).toMatchInlineSnapshot(`
    "stage.ts:2:45: stage 'sample': it is a number on one path and undefined on another
     2 | let x; if (ctx.length > 9) x = 1; const y = x * 2;
       |                                             ^^^^^
       = hint: give it a value on every path"
  `);
  expect(refused('let s = "a"; if (ctx.length > 9) s = "b"; if (s === "a") return ctx.drop();')).toMatchInlineSnapshot(`
    "stage.ts:2:47: stage 'sample': it is a different string on each path
     2 | let s = "a"; if (ctx.length > 9) s = "b"; if (s === "a") return ctx.drop();
       |                                               ^"
  `);
  expect(
    refused(
      'const p = ctx.at(Pair, 0); const h = counts.lookup(1); if (!p || !h) return ctx.drop(); let x = p; if (ctx.length > 9) x = h; x.first = 1;',
    ),
  ).toMatchInlineSnapshot(`
    "stage.ts:2:127: stage 'sample': it refers to different layouts on different paths
     2 | const p = ctx.at(Pair, 0); const h = counts.lookup(1); if (!p || !h) return ctx.drop(); let x = p; if (ctx.length > 9) x = h; x.first = 1;
       |                                                                                                                               ^"
  `);
});

test('stale headers', () => {
  const stale = (rest: string): string => refused(`const ip = ctx.ipv4(); if (!ip) return ctx.drop();\n${rest}`);
  expect(stale('if (!ctx.adjustHead(-20)) return ctx.drop(); ip.ttl = 1;')).toMatchInlineSnapshot(`
    "stage.ts:3:46: stage 'sample': 'ip' is from before ctx.adjustHead(), which moved the packet
     3 | if (!ctx.adjustHead(-20)) return ctx.drop(); ip.ttl = 1;
       |                                              ^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('ctx.adjustTail(8); const x = ip.ttl;')).toMatchInlineSnapshot(`
    "stage.ts:3:30: stage 'sample': 'ip' is from before ctx.adjustTail(), which moved the packet
     3 | ctx.adjustTail(8); const x = ip.ttl;
       |                              ^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('if (ctx.length > 100) ctx.adjustHead(4); const x = ip.ttl;')).toMatchInlineSnapshot(`
    "stage.ts:3:52: stage 'sample': 'ip' is from before ctx.adjustHead(), which moved the packet
     3 | if (ctx.length > 100) ctx.adjustHead(4); const x = ip.ttl;
       |                                                    ^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('ip.ttl = ctx.adjustHead(0) ? 1 : 2;')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': 'ip' is from before ctx.adjustHead(), which moved the packet
     3 | ip.ttl = ctx.adjustHead(0) ? 1 : 2;
       | ^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('ip.ttl += ctx.adjustHead(0) ? 1 : 2;')).toMatchInlineSnapshot(`
    "stage.ts:3:1: stage 'sample': 'ip' is from before ctx.adjustHead(), which moved the packet
     3 | ip.ttl += ctx.adjustHead(0) ? 1 : 2;
       | ^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('const all = { ip }; ctx.adjustHead(4); const x = all.ip.ttl;')).toMatchInlineSnapshot(`
    "stage.ts:3:50: stage 'sample': 'all.ip' is from before ctx.adjustHead(), which moved the packet
     3 | const all = { ip }; ctx.adjustHead(4); const x = all.ip.ttl;
       |                                                  ^^^^^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('for (let i = 0; i < 2; i++) { ip.ttl = i; ctx.adjustHead(4); }')).toMatchInlineSnapshot(`
    "stage.ts:3:31: stage 'sample': 'ip' is from before ctx.adjustHead(), which moved the packet
     3 | for (let i = 0; i < 2; i++) { ip.ttl = i; ctx.adjustHead(4); }
       |                               ^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('ctx.adjustHead(4); const x = ctx.offsetOf(ip);')).toMatchInlineSnapshot(`
    "stage.ts:3:43: stage 'sample': 'ip' is from before ctx.adjustHead(), which moved the packet
     3 | ctx.adjustHead(4); const x = ctx.offsetOf(ip);
       |                                           ^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('ctx.adjustHead(4); const x = ctx.checksum(ip);')).toMatchInlineSnapshot(`
    "stage.ts:3:43: stage 'sample': 'ip' is from before ctx.adjustHead(), which moved the packet
     3 | ctx.adjustHead(4); const x = ctx.checksum(ip);
       |                                           ^^
       = hint: ask ctx for the header again"
  `);
  expect(stale('const at = ctx.length > 60 ? (ctx.adjustHead(4), 1) : 2; ip.ttl = at;')).toMatchInlineSnapshot(`
    "stage.ts:3:58: stage 'sample': 'ip' is from before ctx.adjustHead(), which moved the packet
     3 | const at = ctx.length > 60 ? (ctx.adjustHead(4), 1) : 2; ip.ttl = at;
       |                                                          ^^
       = hint: ask ctx for the header again"
  `);
});

describe('constructs that are not part of the language', () => {
  test('functions and classes', () => {
    expect(refused('const f = (x) => x + 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': a program cannot make functions
       2 | const f = (x) => x + 1;
         |           ^^^^^^^^^^^^
         = hint: declare it with fn() and pass it through uses"
    `);
    expect(refused('const f = function () {};')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': a program cannot make functions
       2 | const f = function () {};
         |           ^^^^^^^^^^^^^^
         = hint: declare it with fn() and pass it through uses"
    `);
    expect(refused('function f() {}')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': a program cannot make functions
       2 | function f() {}
         | ^^^^^^^^^^^^^^^
         = hint: declare it with fn() and pass it through uses"
    `);
    expect(refused('class A {}')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': class is not part of the language
       2 | class A {}
         | ^^^^^^^^^^"
    `);
    expect(refused('const A = class {};')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': class is not part of the language
       2 | const A = class {};
         |           ^^^^^^^^"
    `);
    expect(refused('const o = { m() { return 1; } };')).toMatchInlineSnapshot(`
      "stage.ts:2:14: stage 'sample': a program cannot make functions
       2 | const o = { m() { return 1; } };
         |              ^^^^^^^^^^^^^^^^
         = hint: declare it with fn() and pass it through uses"
    `);
    expect(refused('const o = { get m() { return 1; } };')).toMatchInlineSnapshot(`
      "stage.ts:2:13: stage 'sample': object literals hold plain fields
       2 | const o = { get m() { return 1; } };
         |             ^^^^^^^^^^^^^^^^^^^^^
         = hint: write each field"
    `);
    expect(refused('const x = list.map((y) => y);')).toMatchInlineSnapshot(`
      "stage.ts:2:16: stage 'sample': a constant array has no 'map'
       2 | const x = list.map((y) => y);
         |                ^^^"
    `);
    expect(refused('const x = new Map();')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': a program cannot make objects with new
       2 | const x = new Map();
         |           ^^^^^^^^^
         = hint: write an object literal"
    `);
    expect(refused('const x = this.limit;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': this is not part of the language
       2 | const x = this.limit;
         |           ^^^^"
    `);
    expect(refused('const x = arguments[0];')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': 'arguments' is not part of the language
       2 | const x = arguments[0];
         |           ^^^^^^^^^"
    `);
  });

  test('strings, templates, regular expressions, null', () => {
    expect(refused('const x = `a$' + '{limit}`;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': strings cannot be put together in a program
       2 | const x = \`a\${limit}\`;
         |           ^^^^^^^^^^^"
    `);
    expect(refused('const x = String.raw`a`;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': tagged template is not part of the language
       2 | const x = String.raw\`a\`;
         |           ^^^^^^^^^^^^^"
    `);
    expect(refused('const x = /a/.test("a");')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': /a/ is not part of the language
       2 | const x = /a/.test("a");
         |           ^^^"
    `);
    expect(refused('const x = null;')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': null is not part of the language
       2 | const x = null;
         |           ^^^^
         = hint: use undefined"
    `);
    expect(refused('if ("a") return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:5: stage 'sample': a string as a condition
       2 | if ("a") return ctx.drop();
         |     ^^^"
    `);
  });

  test('spreads, rests and patterns', () => {
    expect(refused('const x = Math.max(...list);')).toMatchInlineSnapshot(`
      "stage.ts:2:20: stage 'sample': arguments cannot be spread
       2 | const x = Math.max(...list);
         |                    ^^^^^^^"
    `);
    expect(refused('const x = { ...config };')).toMatchInlineSnapshot(`
      "stage.ts:2:13: stage 'sample': object literals hold plain fields
       2 | const x = { ...config };
         |             ^^^^^^^^^
         = hint: write each field"
    `);
    expect(refused('const x = [...list];')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': array literals hold plain elements
       2 | const x = [...list];
         |            ^^^^^^^"
    `);
    expect(refused('const [a] = list;')).toMatchInlineSnapshot(`
      "stage.ts:2:7: stage 'sample': only names and object patterns can be declared
       2 | const [a] = list;
         |       ^^^"
    `);
    expect(refused('const { ttl = 1 } = config;')).toMatchInlineSnapshot(`
      "stage.ts:2:9: stage 'sample': only names and object patterns can be declared
       2 | const { ttl = 1 } = config;
         |         ^^^^^^^"
    `);
    expect(refused('const { ...rest } = config;')).toMatchInlineSnapshot(`
      "stage.ts:2:9: stage 'sample': object patterns take plain names
       2 | const { ...rest } = config;
         |         ^^^^^^^"
    `);
    expect(refused('const { ["ttl"]: x } = config;')).toMatchInlineSnapshot(`
      "stage.ts:2:9: stage 'sample': object patterns take plain names
       2 | const { ["ttl"]: x } = config;
         |         ^^^^^^^^^^"
    `);
    expect(refused('let ttl; ({ ttl } = config);')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': only variables, fields and elements can be assigned to
       2 | let ttl; ({ ttl } = config);
         |           ^^^^^^^"
    `);
    expect(refusal(programStage('(ctx, { limit = 3 }) => ctx.next()', { uses }))).toMatchInlineSnapshot(`
      "stage.ts:1:10: stage 'sample': only names and object patterns can be declared
       1 | ((ctx, { limit = 3 }) => ctx.next())
         |          ^^^^^^^^^"
    `);
  });

  test('dynamic property names', () => {
    expect(refused('const k = ctx.length; const x = config[k];')).toMatchInlineSnapshot(`
      "stage.ts:2:33: stage 'sample': property names must be known
       2 | const k = ctx.length; const x = config[k];
         |                                 ^^^^^^^^^
         = hint: write x.name"
    `);
    expect(refused('const x = list[ctx.length];')).toMatchInlineSnapshot(`
      "stage.ts:2:16: stage 'sample': a constant array is indexed by constants only
       2 | const x = list[ctx.length];
         |                ^^^^^^^^^^
         = hint: put it into an arrayMap to look up by value"
    `);
    expect(refused('const x = list[3];')).toMatchInlineSnapshot(`
      "stage.ts:2:16: stage 'sample': the index is 3; the array has 3 elements
       2 | const x = list[3];
         |                ^"
    `);
    expect(refused('const x = { [ctx.length]: 1 };')).toMatchInlineSnapshot(`
      "stage.ts:2:14: stage 'sample': field names must be known
       2 | const x = { [ctx.length]: 1 };
         |              ^^^^^^^^^^"
    `);
    expect(refused('const x = list[-1];')).toMatchInlineSnapshot(`
      "stage.ts:2:16: stage 'sample': the index is -1; the array has 3 elements
       2 | const x = list[-1];
         |                ^^"
    `);
  });

  test('assignments', () => {
    expect(refused('let x = 1; x ||= 2;')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': ||= is not part of the language
       2 | let x = 1; x ||= 2;
         |            ^^^^^^^
         = hint: write an if"
    `);
    expect(refused('let x = ctx.ipv4(); x ??= ctx.ipv4();')).toMatchInlineSnapshot(`
      "stage.ts:2:21: stage 'sample': ??= is not part of the language
       2 | let x = ctx.ipv4(); x ??= ctx.ipv4();
         |                     ^^^^^^^^^^^^^^^^
         = hint: write an if"
    `);
    expect(refused('list[0] = 5;')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': a constant array cannot be assigned to
       2 | list[0] = 5;
         | ^^^^^^^"
    `);
    expect(refused('config.ttl = 5;')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': 'config' cannot be assigned to
       2 | config.ttl = 5;
         | ^^^^^^^^^^"
    `);
    expect(refused('counts.lookup = 5;')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': map 'counts' cannot be assigned to
       2 | counts.lookup = 5;
         | ^^^^^^^^^^^^^"
    `);
    expect(refused('ctx.length = 5;')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': ctx.length cannot be assigned to
       2 | ctx.length = 5;
         | ^^^^^^^^^^"
    `);
    expect(refused('ctx.ipv4() = 5;')).toMatchInlineSnapshot(`
      "stage 'sample': the source of the program cannot be parsed
        hint: write it as a function, an arrow or a method"
    `);
  });

  test('calls of what is no function', () => {
    expect(refused('limit();')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': a number cannot be called
       2 | limit();
         | ^^^^^"
    `);
    expect(refused('ctx();')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': ctx cannot be called
       2 | ctx();
         | ^^^"
    `);
    expect(refused('counts();')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': map 'counts' cannot be called
       2 | counts();
         | ^^^^^^"
    `);
    expect(refused('ctx.length();')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': a number cannot be called
       2 | ctx.length();
         | ^^^^^^^^^^"
    `);
    expect(refused('list.push(1);')).toMatchInlineSnapshot(`
      "stage.ts:2:6: stage 'sample': a constant array has no 'push'
       2 | list.push(1);
         |      ^^^^"
    `);
    expect(refused('import("x");')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': import is not part of the language
       2 | import("x");
         | ^^^^^^^^^^^"
    `);
  });

  test('comparisons of other things than numbers', () => {
    expect(refused('if (ctx.ipv4() === ctx.ipv4()) return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:5: stage 'sample': a reference that may be undefined and a reference that may be undefined are compared
       2 | if (ctx.ipv4() === ctx.ipv4()) return ctx.drop();
         |     ^^^^^^^^^^^^^^^^^^^^^^^^^
         = hint: compare their fields, or use equal(schema)"
    `);
    expect(refused('if (ctx === limit) return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:5: stage 'sample': ctx and a number are compared
       2 | if (ctx === limit) return ctx.drop();
         |     ^^^^^^^^^^^^^"
    `);
    expect(refused('if (true < false) return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:5: stage 'sample': a boolean and a boolean are compared
       2 | if (true < false) return ctx.drop();
         |     ^^^^^^^^^^^^"
    `);
    expect(refused('if (limit === true) return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:5: stage 'sample': a number and a boolean are compared
       2 | if (limit === true) return ctx.drop();
         |     ^^^^^^^^^^^^^^"
    `);
    expect(refused('if ("a" < "b") return ctx.drop();')).toMatchInlineSnapshot(`
      "stage.ts:2:5: stage 'sample': a string and a string are compared
       2 | if ("a" < "b") return ctx.drop();
         |     ^^^^^^^^^"
    `);
  });
});

describe('fns', () => {
  const twice = fn([u32], u32, (x) => x * 2);
  const outer = 3;
  const leaky = fn([u32], u32, (x) => x + outer);
  const wild = fn([u32], u32, (x) => x * x * x);
  const endless = fn([u32], u32, (x) => {
    for (;;) if (x === 2 ** 40) return 1;
  });
  const sum = fn([u32, u32], u32, { twice }, (a, b, { twice: double }) => double(a) + b);
  const all = { twice, leaky, wild, endless, sum };
  const called = (body: string): string =>
    refusal(`${body}\nreturn ctx.next();`, { uses: all })
      .replace(/^\S*expression\.test\.ts:\d+:\d+/, 'expression.test.ts')
      .replace(/^ \d+ /gm, ' 0 ')
      .replace(/^ +([|=])/gm, '   $1');

  test('called wrongly', () => {
    expect(called('twice();')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': fn 'twice' takes 1 argument, got 0
       0 | twice();
         | ^^^^^^^"
    `);
    expect(called('sum(1);')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': fn 'sum' takes 2 arguments, got 1
       0 | sum(1);
         | ^^^^^^"
    `);
    expect(called('const x = twice(1n);')).toMatchInlineSnapshot(`
      "expression.test.ts: stage 'sample': a number and a bigint are mixed
       0 |   const twice = fn([u32], u32, (x) => x * 2);
         |                                       ^^^^^
         = hint: write 1n for 1, or BigInt(x), or Number(x)"
    `);
    expect(called('const x = twice({ a: 1 });')).toMatchInlineSnapshot(`
      "expression.test.ts: stage 'sample': an object literal as an operand of *
       0 |   const twice = fn([u32], u32, (x) => x * 2);
         |                                       ^^^^^"
    `);
    expect(called('const f = twice; const x = f + 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:28: stage 'sample': fn 'twice' as an operand of +
       0 | const f = twice; const x = f + 1;
         |                            ^^^^^"
    `);
  });

  test('places inside of them are theirs', () => {
    expect(called('leaky(1);')).toMatchInlineSnapshot(`
      "expression.test.ts: stage 'sample': 'outer' comes from outside the program
       0 |   const leaky = fn([u32], u32, (x) => x + outer);
         |                                           ^^^^^
         = hint: a program sees only its parameters: add it to uses: { outer } and take it from the second parameter"
    `);
    expect(called('wild(ctx.random());')).toMatchInlineSnapshot(`
      "expression.test.ts: stage 'sample': the result may leave ±2^53, where numbers are exact
       0 |   const wild = fn([u32], u32, (x) => x * x * x);
         |                                      ^^^^^
         = hint: write Math.imul(a, b) for a product of 32 bits"
    `);
    expect(called('endless(1);')).toMatchInlineSnapshot(`
      "expression.test.ts: stage 'sample': operator ** is not part of the language
       0 |     for (;;) if (x === 2 ** 40) return 1;
         |                        ^^^^^^^"
    `);
  });

  test('that call themselves', () => {
    expect(refusal(programStage('function self(ctx) { return ctx.length > 9 ? ctx.drop() : self(ctx); }'))).toMatchInlineSnapshot(`
      "stage.ts:1:60: stage 'sample': 'self' calls itself
       1 | (function self(ctx) { return ctx.length > 9 ? ctx.drop() : self(ctx); })
         |                                                            ^^^^
         = hint: programs have no recursion"
    `);
    const down = fn([u32], u32, function down(x): number {
      return x === 0 ? 0 : down(x - 1);
    });
    expect(
      refusal(stageOf('const x = down(3); return ctx.next();', { uses: { down } }))
        .split('\n')
        .slice(1)
        .join('\n')
        .replace(/^ +\d+ /, ' 0 '),
    ).toMatchInlineSnapshot(`
      " 0 |       return x === 0 ? 0 : down(x - 1);
           |                            ^^^^
           = hint: programs have no recursion"
    `);
  });
});
