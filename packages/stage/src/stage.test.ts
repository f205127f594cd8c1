import { describe, expect, test } from 'vitest';
import { ConflictError } from './binding.ts';
import { equal, type Fn, fn, hashOf, intrinsicReturns } from './fn.ts';
import { type AnyMap, arrayMap, hash, lpmTrie } from './map.ts';
import type { AnyStage } from './member.ts';
import { asConstant, asUse, mapsIn } from './reach.ts';
import { be32, bool, ipv4Prefix, nothing, ref, struct, u8, u16, u32, u64 } from './schema.ts';
import { stage } from './stage.ts';
import { defineStructure } from './structure.ts';

const blocked = lpmTrie({ name: 'blocked', key: ipv4Prefix, value: u64, maxEntries: 10 });
const acl = stage({
  name: 'acl',
  hook: 'xdp',
  uses: { blocked, minTtl: 2, ports: [80, 443], tuning: { burst: 9n } },
  reads: { flow: u32 },
  writes: { tenant: u16 },
  program(ctx, { minTtl }) {
    const ip = ctx.ipv4();
    return ip && ip.ttl < minTtl ? ctx.exit('expired') : ctx.next();
  },
});
const log = stage({ name: 'log', hook: 'xdp', onMiss: 'drop', program: (ctx) => ctx.next() });
const shaper = stage({ name: 'shaper', hook: 'tcEgress', program: (ctx) => ctx.pass() });
const peer = stage({ name: 'peer', hook: 'tcIngress', program: (ctx) => ctx.pass() });
const policy = stage({ name: 'policy', hook: 'tc', program: (ctx) => (ctx.mark === 7 ? ctx.exit('audit') : ctx.pass()) });

describe('a stage', () => {
  test('is data', () => {
    expect(acl).toMatchObject({
      kind: 'stage',
      name: 'acl',
      hook: 'xdp',
      onMiss: 'pass',
      wiring: {},
      reads: { flow: u32 },
      writes: { tenant: u16 },
    });
    expect(acl.uses.blocked).toBe(blocked);
    expect(acl.program.toString()).toContain('ip.ttl < minTtl');
    expect(log).toMatchObject({ onMiss: 'drop', uses: {}, reads: {}, writes: {} });
  });

  test('and its copies do not change', () => {
    const ports = [1];
    const other = acl
      .as('strict')
      .with({ minTtl: 64, ports })
      .on({ expired: [log, 'drop'] });
    ports.push(2);
    expect(other).toMatchObject({
      name: 'strict',
      uses: { minTtl: 64, ports: [1], tuning: { burst: 9n } },
      wiring: { expired: [log, 'drop'] },
    });
    expect(other.program).toBe(acl.program);
    expect(acl).toMatchObject({ name: 'acl', uses: { minTtl: 2 }, wiring: {} });
    for (const value of [acl, acl.uses, acl.uses.ports, acl.uses.tuning, acl.reads, other.wiring, other.wiring.expired])
      expect(Object.isFrozen(value)).toBe(true);
  });

  test('takes the direction of what it is wired to', () => {
    expect(policy.on({ audit: 'pass' }).hook).toBe('tc');
    expect(policy.on({ audit: peer }).hook).toBe('tcIngress');
    expect(() => policy.on({ audit: [peer, shaper] } as never)).toThrow(
      'the stage is wired to tcEgress and tcIngress stages, expected one direction',
    );
  });

  test.each<[string, () => unknown, string]>([
    [
      'name',
      () => stage({ name: 'a b', hook: 'xdp', program: (ctx) => ctx.pass() }),
      "stage: name 'a b', expected a letter, then letters, digits and '_'",
    ],
    [
      'hook',
      () => stage({ name: 'a', hook: 'xpd' as 'xdp', program: (ctx) => ctx.pass() }),
      "stage 'a': hook is 'xpd', expected xdp, tc, tcIngress, tcEgress, skSkb, skMsg, sockOps",
    ],
    ['body', () => stage({ name: 'a', hook: 'xdp', program: 'x' as never }), "stage 'a': program is string, expected a function"],
    [
      'miss',
      () => stage({ name: 'a', hook: 'xdp', onMiss: 'tx' as never, program: (ctx) => ctx.pass() }),
      "stage 'a': onMiss is 'tx', expected 'pass' or 'drop'",
    ],
    [
      'use',
      () => stage({ name: 'a', hook: 'xdp', uses: { when: new Date(0) }, program: (ctx) => ctx.pass() }),
      "stage 'a': uses.when is an instance of Date, expected a map, structure, fn, schema or constant",
    ],
    [
      'function',
      () => stage({ name: 'a', hook: 'xdp', uses: { f: () => 1 }, program: (ctx) => ctx.pass() }),
      "stage 'a': uses.f is a function, expected a map, structure, fn, schema or constant",
    ],
    [
      'constant inside',
      () => stage({ name: 'a', hook: 'xdp', uses: { list: [1, { x: Number.NaN }] }, program: (ctx) => ctx.pass() }),
      "stage 'a': uses.list[1].x is NaN, expected a finite number",
    ],
    [
      'no constant',
      () => stage({ name: 'a', hook: 'xdp', uses: { x: undefined }, program: (ctx) => ctx.pass() }),
      "stage 'a': uses.x is undefined, expected a map, structure, fn, schema or constant",
    ],
    [
      'metadata',
      () => stage({ name: 'a', hook: 'xdp', writes: { x: nothing }, program: (ctx) => ctx.pass() }),
      "stage 'a': writes.x is nothing, expected a schema with bytes",
    ],
    [
      'verdict',
      () => acl.on({ expired: 'dorp' as 'drop' }),
      "exit 'expired' of 'acl': 'dorp' is no verdict, expected next, pass, drop, tx, abort, a stage or a function",
    ],
    [
      'target',
      () => acl.on({ expired: shaper as never }),
      "exit 'expired' of 'acl': stage 'shaper' has hook 'tcEgress'; 'xdp' is needed here",
    ],
    [
      'no target',
      () => acl.on({ expired: 7 as never }),
      "exit 'expired' of 'acl': a target is number, expected a verdict's name, a stage or a function",
    ],
    ['empty sub-chain', () => acl.on({ expired: [] }), "exit 'expired' of 'acl': the sub-chain is empty, expected at least one member"],
    ['unknown use', () => acl.with({ minTtI: 1 } as never), "stage 'acl': with 'minTtI', which is not in its uses"],
    ['other kind', () => acl.with({ minTtl: 1n } as never), "stage 'acl': uses.minTtl is a constant bigint, expected a constant number"],
    ['map for a constant', () => acl.with({ minTtl: blocked } as never), "stage 'acl': uses.minTtl is a map, expected a constant number"],
  ])('refuses: %s', (_, make, message) => expect(make).toThrow(expect.objectContaining({ code: 'argument', message })));
});

describe('binding', () => {
  const bind = (use: AnyMap) => (): unknown => acl.with({ blocked: use } as never);
  test('another map of the same schema, whatever its limits', () => {
    const inner = lpmTrie({ name: 'inner', key: ipv4Prefix, value: u64, maxEntries: 7 });
    expect(acl.with({ blocked: inner }).uses.blocked).toBe(inner);
  });
  test('no other schema', () => {
    const wrong = lpmTrie({ name: 'wrong', key: struct({ prefixLen: u32, addr: be32, port: u8 }), value: u32, maxEntries: 7 });
    expect(bind(wrong)).toThrow(ConflictError);
    expect(bind(wrong)).toThrow("stage 'acl': uses.blocked: key.port is missing and u8, value is u64 and u32");
    expect(bind(hash({ name: 'h', key: ipv4Prefix, value: u64, maxEntries: 7 }))).toThrow('type is lpmTrie and hash');
  });
  test('structures by their maps, fns by their signatures, schemas by their layouts', () => {
    const box = (value: typeof u32 | typeof u8, member = 'get') => {
      const cells = arrayMap({ name: 'cells', value, maxEntries: 1 });
      return defineStructure({
        name: 'box',
        maps: { cells },
        fns: { [member]: fn([u32], bool, { cells }, (i, { cells }) => cells.lookup(i) !== undefined) },
        handle: () => 1,
      });
    };
    const user = stage({ name: 'user', hook: 'xdp', uses: { box: box(u32), f: fn([u32], u32, (a) => a) }, program: (ctx) => ctx.next() });
    expect(user.with({ box: box(u32) }).uses.box).not.toBe(user.uses.box);
    expect(() => user.with({ box: box(u8) })).toThrow("stage 'user': uses.box: maps.cells.value is u32 and u8");
    expect(() => user.with({ box: box(u32, 'has') })).toThrow(
      "stage 'user': uses.box: fns.get is fn and missing, fns.has is missing and fn",
    );
    const reader = stage({
      name: 'reader',
      hook: 'xdp',
      uses: { Header: u16 },
      program: (ctx, { Header }) => (ctx.at(Header, 0) ? ctx.pass() : ctx.drop()),
    });
    expect(reader.uses.Header).toBe(u16);
    expect(() => reader.with({ Header: be32 })).toThrow("stage 'reader': uses.Header: layout is u16 and be32");
    expect(() => user.with({ f: fn([u16], u32, (a) => a) })).toThrow("stage 'user': uses.f: signature is (u32) => u32 and (u16) => u32");
  });
});

describe('fns', () => {
  test('are data', () => {
    const plain = fn([u32, u8], u32, (a, b) => (a ^ b) >>> 0);
    const using = fn([u32], ref(u64), { blocked, plain }, (addr, { blocked }) => blocked.lookup({ prefixLen: 32, addr }));
    expect(plain).toMatchObject({ kind: 'fn', args: [u32, u8], returns: u32, uses: undefined });
    expect(plain.body.toString()).toContain('a ^ b');
    expect(using.uses).toEqual({ blocked, plain });
    expect(hashOf(u64)).toMatchObject({ kind: 'intrinsic', name: 'hashOf', schema: u64 });
    expect([intrinsicReturns(hashOf(u64)), intrinsicReturns(equal(u64))]).toEqual([u32, bool]);
  });
  test.each<[string, () => unknown, string]>([
    ['argument', () => fn([nothing], u32, () => 1), 'fn: argument 0 is nothing, expected a schema with bytes'],
    ['body', () => fn([u32], u32, { a: 1 }, undefined as never), 'fn: the body is undefined, expected a function'],
    [
      'uses',
      () => fn([u32], u32, { a: new Map() }, () => 1),
      'fn: uses.a is an instance of Map, expected a map, structure, fn, schema or constant',
    ],
    ['key', () => hashOf(nothing), 'hashOf: the key is nothing, expected a schema with bytes'],
    [
      'member',
      () => defineStructure({ name: 's', maps: { a: 1 as never }, fns: {}, handle: () => 1 }),
      "structure 's': maps.a is no map declaration",
    ],
    [
      'no fn',
      () => defineStructure({ name: 's', maps: {}, fns: { a: blocked as unknown as Fn<[], number> }, handle: () => 1 }),
      "structure 's': fns.a is no fn",
    ],
  ])('refuses: %s', (_, make, message) => expect(make).toThrow(expect.objectContaining({ code: 'argument', message })));
});

test('what a body reaches', () => {
  const [cells, seen] = [arrayMap({ name: 'cells', value: u32, maxEntries: 1 }), arrayMap({ name: 'seen', value: u32, maxEntries: 1 })];
  const get = fn([u32], bool, { seen, blocked }, (i, { seen }) => seen.lookup(i) !== undefined);
  const box = defineStructure({ name: 'box', maps: { cells }, fns: { get }, handle: ({ cells }) => cells.size });
  const user: AnyStage = stage({ name: 'user', hook: 'xdp', uses: { box, cells, n: 1, hash: hashOf(u32) }, program: (ctx) => ctx.next() });
  expect(mapsIn(user.uses)).toEqual([cells, seen, blocked]);
  expect(asUse(user.uses.box)).toBe(box);
  expect([asUse(1), asConstant(1), asConstant(box), asUse(u32), asConstant(u32)]).toEqual([undefined, 1, undefined, undefined, undefined]);
  expect(box.handle({ cells: { size: 3 } })).toBe(3);
});
