import {
  array,
  arrayMap,
  be16,
  be32,
  defineStructure,
  devmap,
  equal,
  fn,
  hash,
  hashBytes,
  hashOf,
  Ipv4,
  ip,
  ipv4Prefix,
  lpmTrie,
  lruHash,
  mac,
  nothing,
  perCpuArray,
  ref,
  stage,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { runEverywhere } from './everywhere.ts';
import './matchers.ts';
import { truncations } from './mutation.ts';
import { describeOutcome } from './outcome.ts';
import { packet } from './packet.ts';
import { SimulatedMaps } from './simulated-map.ts';
import { simulate } from './simulation.ts';

const blocked = lpmTrie({ name: 'blocked', key: ipv4Prefix, value: u64, maxEntries: 100 });
const acl = stage({
  name: 'acl',
  hook: 'xdp',
  uses: { blocked, minTtl: 2 },
  program(ctx, { blocked, minTtl }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    if (ip.ttl < minTtl) return ctx.exit('expired');
    const hits = blocked.lookup({ prefixLen: 32, addr: ip.saddr });
    if (hits) {
      hits.value += 1n;
      return ctx.drop();
    }
    return ctx.next();
  },
});

/** A stage of one body, for tests of a single feature. */
const prefixKey = (length: number, address: string): Uint8Array => {
  const key = new Uint8Array(8);
  const view = new DataView(key.buffer);
  view.setUint32(0, length, true);
  view.setUint32(4, ip(address));
  return key;
};

test('a stage runs as it is, and its maps keep their state between packets', () => {
  const maps = new SimulatedMaps();
  maps.of(blocked).update(prefixKey(24, '192.0.2.0'), new Uint8Array(8));
  expect(simulate(acl, packet().ipv4({ saddr: '192.0.2.77' }).tcp(), { maps })).toDrop();
  expect(simulate(acl, packet().ipv4({ saddr: '192.0.2.78' }).udp(), { maps })).toDrop();
  expect(simulate(acl, packet().ipv4({ saddr: '192.0.3.1' }).tcp(), { maps })).toNext();
  expect(simulate(acl, packet().ipv4({ ttl: 1 }).tcp(), { maps })).toExit('expired');
  expect(simulate(acl, packet().ipv6().tcp(), { maps })).toNext();
  expect(maps.of(blocked).lookup(prefixKey(32, '192.0.2.1'))).toEqual(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0));
});

/** Says which headers a packet has, as bits in the metadata. */
const probe = stage({
  name: 'probe',
  hook: 'xdp',
  writes: { found: u32 },
  program(ctx) {
    ctx.meta.found =
      (ctx.ethernet() ? 1 : 0) |
      (ctx.ipv4() ? 2 : 0) |
      (ctx.ipv6() ? 4 : 0) |
      (ctx.tcp() ? 8 : 0) |
      (ctx.udp() ? 16 : 0) |
      (ctx.icmp() ? 32 : 0) |
      (ctx.icmpv6() ? 64 : 0) |
      (ctx.ports() ? 128 : 0);
    return ctx.next();
  },
});
const names = ['ethernet', 'ipv4', 'ipv6', 'tcp', 'udp', 'icmp', 'icmpv6', 'ports'];
const found = (frame: Parameters<typeof simulate>[1]): string => {
  const bits = Number(simulate(probe, frame).meta.found);
  return names.filter((_, bit) => ((bits >> bit) & 1) === 1).join(' ');
};

describe('headers', () => {
  const four = new Uint8Array(4);
  const cases = [
    ['TCP', packet().ipv4().tcp(), 'ethernet ipv4 tcp ports'],
    ['UDP behind options', packet().ipv4({ options: four }).udp(), 'ethernet ipv4 udp ports'],
    ['ICMP', packet().ipv4().icmp(), 'ethernet ipv4 icmp'],
    ['TCP over IPv6', packet().ipv6().tcp(), 'ethernet ipv6 tcp ports'],
    ['ICMPv6', packet().ipv6().icmpv6(), 'ethernet ipv6 icmpv6'],
    ['ICMPv6 over IPv4', packet().ipv4({ protocol: 58 }).icmp(), 'ethernet ipv4'],
    ['an extension header', packet().ipv6({ nextHeader: 0 }).payload(40), 'ethernet ipv6'],
    ['a first fragment', packet().ipv4({ moreFragments: true }).udp().payload(8), 'ethernet ipv4 udp ports'],
    ['a later fragment', packet().ipv4({ fragmentOffset: 8, protocol: 17 }).payload(40), 'ethernet ipv4'],
    ['dont fragment', packet().ipv4({ dontFragment: true }).udp(), 'ethernet ipv4 udp ports'],
    ['version 5', packet().ipv4({ version: 5 }).udp(), 'ethernet'],
    ['IPv6 of version 4', packet().ipv6({ version: 4 }).udp(), 'ethernet'],
    ['ihl 4', packet().ipv4({ ihl: 4 }).udp(), 'ethernet'],
    ['ihl behind the packet', packet().ipv4({ ihl: 15 }).udp(), 'ethernet ipv4'],
    ['another EtherType', packet().ethernet({ etherType: 0x0806 }).ipv4().udp(), 'ethernet'],
    ['a total length of 27', packet().ipv4({ totalLength: 27 }).udp(), 'ethernet ipv4 ports'],
    ['a total length of 23', packet().ipv4({ totalLength: 23 }).udp(), 'ethernet ipv4'],
    ['a total length beyond the packet', packet().ipv4({ totalLength: 999 }).udp(), 'ethernet ipv4 udp ports'],
    ['a payload length of 19', packet().ipv6({ payloadLength: 19 }).tcp(), 'ethernet ipv6 ports'],
    ['a payload length of 3', packet().ipv6({ payloadLength: 3 }).tcp(), 'ethernet ipv6'],
  ] as const;
  test.each(cases)('%s', (_name, frame, expected) => {
    expect(found(frame)).toBe(expected);
  });

  test('cut at every byte', () => {
    const lengths = (frame: ReturnType<typeof packet>): string[] => {
      const seen: string[] = [];
      for (const cut of truncations(frame))
        if (found(cut) !== seen.at(-1)?.replace(/^\d+: /, '')) seen.push(`${cut.length}: ${found(cut)}`);
      return seen;
    };
    expect(lengths(packet().ipv4({ options: four }).tcp().payload(4))).toEqual([
      '0: ',
      '14: ethernet',
      '34: ethernet ipv4',
      '42: ethernet ipv4 ports',
      '58: ethernet ipv4 tcp ports',
    ]);
    expect(lengths(packet().ipv6().udp().payload(4))).toEqual([
      '0: ',
      '14: ethernet',
      '54: ethernet ipv6',
      '58: ethernet ipv6 ports',
      '62: ethernet ipv6 udp ports',
    ]);
  });
});

test('headers are written in place, and writes wrap', () => {
  const rewrite = stage({
    name: 'rewrite',
    hook: 'xdp',
    program(ctx) {
      const eth = ctx.ethernet();
      const ip = ctx.ipv4();
      const tcp = ctx.tcp();
      if (!eth || !ip || !tcp) return ctx.abort();
      const src = eth.src;
      eth.src = eth.dst;
      eth.dst = src;
      ip.checksum = ctx.checksumReplace(ip.checksum, (ip.ttl << 8) | ip.protocol, ((ip.ttl - 1) << 8) | ip.protocol);
      ip.ttl -= 1;
      tcp.checksum = ctx.checksumReplace(tcp.checksum, tcp.dport, 8080);
      tcp.dport = 8080 + 65536;
      return tcp.ack && !tcp.syn && ip.headerLength === 24 && ctx.offsetOf(tcp) === 38 ? ctx.tx() : ctx.drop();
    },
  });
  const base = packet().ethernet({ src: 1, dst: 2 });
  const options = new Uint8Array(4);
  const result = simulate(rewrite, base.ipv4({ options }).tcp().payload('x'));
  expect(result).toTx();
  expect(result).toEqualPacket(packet().ethernet({ src: 2, dst: 1 }).ipv4({ ttl: 63, options }).tcp({ dport: 8080 }).payload('x'));
});

test('an encapsulation: room in front, fresh headers, a checksum', () => {
  const encap = stage({
    name: 'encap',
    hook: 'xdp',
    uses: { Ipv4 },
    program(ctx, { Ipv4 }) {
      const inner = ctx.ipv4();
      const before = ctx.ethernet();
      if (!inner || !before) return ctx.drop();
      const { src, dst } = before;
      const total = inner.totalLength + 20;
      if (!ctx.adjustHead(-20)) return ctx.drop();
      const eth = ctx.ethernet();
      const outer = ctx.at(Ipv4, 14);
      if (!eth || !outer) return ctx.drop();
      eth.src = src;
      eth.dst = dst;
      eth.etherType = 0x0800;
      outer.versionIhl = 0x45;
      outer.tos = 0;
      outer.totalLength = total;
      outer.id = 0;
      outer.flagsFragment = 0;
      outer.ttl = 64;
      outer.protocol = 4;
      outer.checksum = 0;
      outer.saddr = 0x0a000001;
      outer.daddr = 0x0a000002;
      outer.checksum = ctx.checksum(outer);
      return ctx.length === total + 14 ? ctx.tx() : ctx.abort();
    },
  });
  const result = simulate(encap, packet().ipv4({ ttl: 9 }).udp().payload(20));
  expect(result).toTx();
  expect(result).toEqualPacket(packet().ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' }).ipv4({ ttl: 9 }).udp().payload(20));
});

test('a header from before the packet moved is stale', () => {
  const body = (read: boolean) =>
    stage({
      name: 'stale',
      hook: 'xdp',
      uses: { read },
      program(ctx, { read }) {
        const ip = ctx.ipv4();
        if (!ip || ctx.adjustHead(1_000_000)) return ctx.drop();
        return read && ip.ttl > 0 ? ctx.pass() : ctx.next();
      },
    });
  expect(simulate(body(false), packet().ipv4().udp())).toNext();
  expect(() => simulate(body(true), packet().ipv4().udp())).toThrow('a header from before ctx.adjustHead(), which moved the packet');
});

test("the packet's ends move within the buffer", () => {
  const move = (head: number, tail: number) =>
    stage({
      name: 'move',
      hook: 'xdp',
      uses: { head, tail },
      program: (ctx, { head, tail }) => (ctx.adjustHead(head) ? (ctx.adjustTail(tail) ? ctx.pass() : ctx.exit('tail')) : ctx.exit('head')),
    });
  const frame = packet().ipv4().udp().payload(58);
  expect(simulate(move(0, 0), frame)).toPass();
  expect(simulate(move(86, 0), frame)).toPass();
  expect(simulate(move(87, 0), frame)).toExit('head');
  expect(simulate(move(-200, 0), frame).packet).toHaveLength(300);
  expect(simulate(move(-257, 0), frame)).toExit('head');
  expect(simulate(move(0, -86), frame).packet).toHaveLength(14);
  expect(simulate(move(0, -87), frame)).toExit('tail');
  expect(simulate(move(14, 10), frame).packet).toEqual(Uint8Array.from([...frame.bytes().subarray(14), ...new Uint8Array(10)]));
  expect(simulate(move(0, 4000), frame)).toExit('tail');
});

test('values of maps are live, of every shape', () => {
  const Entry = struct({ small: u8, port: be16, total: u64, owner: mac, parts: array(u16, 3) });
  const table = hash({ name: 'table', key: struct({ a: u8, b: u32 }), value: Entry, maxEntries: 2 });
  const counters = perCpuArray({ name: 'counters', value: u32, maxEntries: 2 });
  const work = stage({
    name: 'work',
    hook: 'xdp',
    uses: { table, counters },
    program(ctx, { table, counters }) {
      const key = { a: 300, b: -1 };
      if (
        !table.update(key, {
          small: 256 + 7,
          port: 0x1234,
          total: -1n,
          owner: 0x020000000001,
          parts: [1, 65536, 3] as { readonly length: number; [index: number]: number },
        })
      )
        return ctx.abort();
      const entry = table.lookup({ b: 0xffffffff, a: 44 });
      const counter = counters.lookup(1);
      if (!entry || !counter || counters.lookup(2)) return ctx.abort();
      entry.total += 3n;
      entry.parts[1] = entry.parts.length + 0x10000;
      entry.small -= 8;
      counter.value -= 1;
      if (table.update(key, entry, 'noexist') || table.update({ a: 1, b: 1 }, entry, 'exist')) return ctx.abort();
      table.update({ a: 1, b: 1 }, entry);
      if (table.update({ a: 2, b: 1 }, entry)) return ctx.exit('tooMany');
      return table.delete({ a: 1, b: 1 }) && !table.delete({ a: 9, b: 9 }) ? ctx.pass() : ctx.abort();
    },
  });
  const { maps, ...outcome } = simulate(work, packet().ipv4().udp());
  expect(outcome).toPass();
  const [value] = [maps.of(table).lookup(Uint8Array.of(44, 0, 0, 0, 255, 255, 255, 255))];
  expect(value).toEqual(
    Uint8Array.of(255, 0, 0x12, 0x34, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 0, 3, 0, 3, 0, 0, 0, 0, 0),
  );
  expect(maps.of(counters).readAll().values).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0));
});

test('fns, intrinsics and structures are called, with maps of their own', () => {
  const Key = struct({ a: u8, b: be32 });
  const slots = arrayMap({ name: 'slots', value: struct({ key: Key, hits: u64 }), maxEntries: 16 });
  const add = fn([u32, u32], u32, (a, b) => (a + b) >>> 0);
  const slotOf = fn([Key], ref(struct({ key: Key, hits: u64 })), { slots, hashKey: hashOf(Key) }, (key, { slots, hashKey }) =>
    slots.lookup(hashKey(key) & 15),
  );
  const touch = fn([Key], nothing, { slotOf, same: equal(Key) }, (key, { slotOf, same }) => {
    const slot = slotOf(key);
    if (!slot) return;
    slot.hits = same(slot.key, key) ? slot.hits + 1n : 1n;
    slot.key = key;
  });
  const cache = defineStructure({ name: 'cache', maps: { slots }, fns: { touch, slotOf }, handle: () => undefined });
  const use = stage({
    name: 'use',
    hook: 'xdp',
    uses: { cache, add },
    writes: { hits: u64, sum: u32 },
    program(ctx, { cache, add }) {
      const key = { a: 1, b: 0x01020304 };
      cache.touch(key);
      cache.touch({ b: 0x01020304, a: 257 });
      ctx.meta.hits = cache.slotOf(key)?.hits ?? 0n;
      ctx.meta.sum = add(0xffffffff, 3);
      return ctx.next();
    },
  });
  const result = simulate(use, packet().ipv4().udp());
  expect(result.meta).toEqual({ hits: 2n, sum: 2 });
  const slot = hashBytes(Uint8Array.of(1, 0, 0, 0, 1, 2, 3, 4)) & 15;
  expect(
    result.maps
      .of(slots)
      .readAll()
      .values.subarray(slot * 16, slot * 16 + 8),
  ).toEqual(Uint8Array.of(1, 0, 0, 0, 1, 2, 3, 4));
});

test('a drop says why, and differs from one for another reason', async () => {
  const guard = stage({
    name: 'guard',
    hook: 'tc',
    program: (ctx) => (ctx.length < 20 ? ctx.drop('short') : ctx.length < 60 ? ctx.drop('small') : ctx.drop()),
  });
  const runt = simulate(guard, new Uint8Array(14));
  expect(runt).toMatchObject({ verdict: 'drop', reason: 'short' });
  expect(describeOutcome(runt)).toBe("drop 'short'");
  expect(simulate(guard, new Uint8Array(60))).not.toHaveProperty('reason');
  const [small] = await runEverywhere(guard, [packet().ipv4().udp()]);
  expect(small).toMatchObject({ verdict: 'drop', reason: 'small' });
});

test('redirects: to an interface, through a devmap, and where it has no entry', () => {
  const ports = devmap({ name: 'ports', maxEntries: 4 });
  const out = stage({
    name: 'out',
    hook: 'xdp',
    uses: { ports },
    program: (ctx, { ports }) => (ctx.length > 60 ? ctx.redirect(7) : ctx.redirect(ports, ctx.length & 3)),
  });
  const maps = new SimulatedMaps();
  maps.of(ports).update(Uint8Array.of(2, 0, 0, 0), Uint8Array.of(5, 0, 0, 0));
  expect(simulate(out, packet().ipv4().udp().payload(40), { maps })).toRedirect(7);
  expect(simulate(out, packet().ipv4().udp(), { maps })).toMatchObject({ verdict: 'redirect', redirect: { map: ports, key: 2 } });
  expect(simulate(out, packet().ipv4().udp().payload(1), { maps })).toAbort();
});

test('the machine is what the options say', () => {
  const ask = stage({
    name: 'ask',
    hook: 'xdp',
    reads: { mark: u8 },
    writes: { now: u64, first: u32, second: u32, third: u32, cpu: u32, at: u32 },
    program(ctx) {
      ctx.meta.now = ctx.now() + ctx.nowCoarse();
      ctx.meta.first = ctx.random();
      ctx.meta.second = ctx.random();
      ctx.meta.third = ctx.random();
      ctx.meta.cpu = ctx.cpu() + ctx.meta.mark;
      ctx.meta.at = ctx.ingressIfindex * 10 + ctx.rxQueue;
      return ctx.next();
    },
  });
  const { meta } = simulate(ask, packet().ipv4().udp(), {
    now: 5n,
    random: [7, -1],
    cpu: 3,
    ingressIfindex: 4,
    rxQueue: 2,
    meta: { mark: 100 },
  });
  expect(meta).toEqual({ now: 10n, first: 7, second: 0xffffffff, third: 7, cpu: 103, at: 42, mark: 100 });
  expect(() => simulate(ask, packet().ipv4().udp(), { meta: { marc: 1 } })).toThrow("metadata 'marc' is not declared by the stage");
});

test('a full LRU map evicts', () => {
  const recent = lruHash({ name: 'recent', key: u32, value: u32, maxEntries: 2 });
  const put = stage({
    name: 'put',
    hook: 'xdp',
    uses: { recent },
    program(ctx, { recent }) {
      recent.update(1, 1);
      recent.update(2, 2);
      recent.lookup(1);
      recent.update(3, 3);
      return recent.lookup(2) || !recent.lookup(1) || !recent.lookup(3) ? ctx.drop() : ctx.pass();
    },
  });
  expect(simulate(put, packet().ipv4().udp())).toPass();
});

test('what the compiler refuses is an error', () => {
  const table = hash({ name: 'table', key: u32, value: u32, maxEntries: 2 });
  const bad = <const N extends string>(name: N, body: () => unknown) => stage({ name, hook: 'xdp', program: body as never });
  expect(() =>
    simulate(
      bad('silent', () => undefined),
      packet(),
    ),
  ).toThrow("stage 'silent' returned undefined, expected a verdict");
  expect(() =>
    simulate(
      bad('invented', () => ({ verdict: 'pass' })),
      packet(),
    ),
  ).toThrow("stage 'invented' returned [object Object], expected a verdict");
  const mixed = stage({
    name: 'mixed',
    hook: 'xdp',
    uses: { table },
    program: (ctx, { table }) => (table.update(1, 1n as never) ? ctx.pass() : ctx.drop()),
  });
  expect(() => simulate(mixed, packet())).toThrow('1n is written to a u32');
  const fraction = stage({
    name: 'fraction',
    hook: 'xdp',
    uses: { table },
    program: (ctx, { table }) => (table.update(1 / 3, 1) ? ctx.pass() : ctx.drop()),
  });
  expect(() => simulate(fraction, packet())).toThrow('0.3333333333333333 is written to a u32');
  const parser = stage({ name: 'parser', hook: 'skSkb', program: (ctx) => ctx.pass() });
  expect(() => simulate(parser, packet())).toThrow("stage 'parser' has hook 'skSkb', only 'xdp' and those of TC can be simulated");
  expect(() => simulate(acl, packet(), { skb: { mark: 1 } })).toThrow("stage 'acl' has hook 'xdp', where a packet is its bytes alone");
  const bounce = stage({ name: 'bounce', hook: 'xdp', program: (ctx) => ctx.tx() });
  expect(() => simulate(bounce, packet(), { hook: 'tcEgress' })).toThrow('ctx.tx is not there at tcEgress');
});
