/** A stage on an engine: its ways out, its maps and metadata, and random packets, held to the simulation. */
import { readdirSync } from 'node:fs';
import type { Engine } from '@tailrace/bpf';
import {
  type AnyStage,
  arrayMap,
  be16,
  be32,
  equal,
  fn,
  hash,
  hashOf,
  Ipv4,
  ip,
  ipv4Prefix,
  lpmTrie,
  mac,
  perCpuArray,
  stage,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '@tailrace/stage';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import './matchers.ts';
import { fragments, truncations } from './mutation.ts';
import { type Packet, packet } from './packet.ts';
import { run, runner } from './run.ts';
import { simulatedHandle } from './simulated-handle.ts';
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
    return ctx.pass();
  },
});

/** Every header, every field of it that tells packets apart, and a rewrite. */
const probe = stage({
  name: 'probe',
  hook: 'xdp',
  writes: { found: u32, sum: u64, check: u16 },
  program(ctx) {
    const eth = ctx.ethernet();
    const ip = ctx.ipv4();
    const ip6 = ctx.ipv6();
    const tcp = ctx.tcp();
    const udp = ctx.udp();
    const icmp = ctx.icmp();
    const icmp6 = ctx.icmpv6();
    const ports = ctx.ports();
    ctx.meta.found =
      (eth ? 1 : 0) |
      (ip ? 2 : 0) |
      (ip6 ? 4 : 0) |
      (tcp ? 8 : 0) |
      (udp ? 16 : 0) |
      (icmp ? 32 : 0) |
      (icmp6 ? 64 : 0) |
      (ports ? 128 : 0);
    let sum = BigInt(ctx.length);
    if (eth) sum += BigInt(eth.dst) + BigInt(eth.src);
    if (ip) sum += BigInt(ip.saddr + ip.headerLength + ip.fragmentOffset + (ip.moreFragments ? 1 : 0));
    if (ip6) sum += ip6.saddr.hi * 3n + ip6.daddr.lo;
    if (tcp) sum += BigInt(tcp.seq + (tcp.syn ? 1 : 0));
    if (udp) sum += BigInt(udp.length);
    if (icmp) sum += BigInt(icmp.id + ctx.offsetOf(icmp));
    if (icmp6) sum += BigInt(icmp6.sequence);
    if (ports) {
      sum += BigInt(ports.sport);
      ports.dport = ports.sport + 65_535;
    }
    if (ip) {
      ctx.meta.check = ctx.checksum(ip, ip.headerLength);
      ip.checksum = ctx.checksumReplace(ip.checksum, (ip.ttl << 8) | ip.protocol, (((ip.ttl + 255) << 8) & 0xff00) | ip.protocol);
      ip.ttl -= 1;
    }
    ctx.meta.sum = sum;
    if (ip && tcp) return ctx.exit('tcp');
    if (ip6) return ctx.tx();
    return udp ? ctx.drop() : ctx.next();
  },
});

const flows = hash({
  name: 'flows',
  key: struct({ saddr: be32, proto: u8, port: be16 }),
  value: struct({ packets: u64, owner: mac, small: u16 }),
  maxEntries: 6,
});
const counts = perCpuArray({ name: 'counts', value: u32, maxEntries: 4 });
const lengths = arrayMap({ name: 'lengths', value: struct({ total: u64, last: u32 }), maxEntries: 3 });
const Key = struct({ saddr: be32, proto: u8, port: be16 });
const bucketOf = fn([Key], u32, { hashKey: hashOf(Key) }, (key, { hashKey }) => hashKey(key) & 3);
/** Maps of every kind, fns and intrinsics. */
const count = stage({
  name: 'count',
  hook: 'xdp',
  uses: { flows, counts, lengths, bucketOf, same: equal(Key) },
  program(ctx, { flows, counts, lengths, bucketOf, same }) {
    const ip = ctx.ipv4();
    const eth = ctx.ethernet();
    if (!ip || !eth) return ctx.next();
    const ports = ctx.ports();
    const key = { saddr: ip.saddr & 3, proto: ip.protocol, port: ports ? ports.sport & 1 : 0 };
    const counter = counts.lookup(bucketOf(key));
    if (counter) counter.value -= 1;
    const length = lengths.lookup(ctx.length & 3);
    if (length) {
      length.total += BigInt(ctx.length);
      length.last = ip.id * 65_536;
    }
    const flow = flows.lookup(key);
    if (flow) {
      flow.packets += 1n;
      flow.owner = eth.src;
      flow.small = ip.ttl + 65_500;
      if (flow.packets > 3n) return flows.delete(key) ? ctx.drop() : ctx.abort();
      return ctx.pass();
    }
    if (same(key, { saddr: 1, proto: 17, port: 0 })) return ctx.exit('special');
    return flows.update(key, { packets: 1n, owner: eth.dst, small: 3 }) ? ctx.pass() : ctx.exit('full');
  },
});

/** Moves the packet's ends by what the packet says, within and beyond what the kernel allows. */
const move = stage({
  name: 'move',
  hook: 'xdp',
  uses: { Ipv4, step: 14 },
  writes: { head: u8, tail: u8 },
  program(ctx, { Ipv4, step }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    const head = ip.tos - 128;
    const tail = ip.id - 2048;
    ctx.meta.head = ctx.adjustHead(head) ? 1 : 2;
    ctx.meta.tail = ctx.adjustTail(tail) ? 1 : 2;
    const front = ctx.at(Ipv4, step);
    // What lies in front of the old start is not defined: write it.
    const eth = ctx.ethernet();
    if (eth) {
      eth.dst = 1;
      eth.src = 2;
      eth.etherType = 0x0800;
    }
    if (!front) return ctx.drop();
    front.totalLength = ctx.length;
    return ctx.pass();
  },
});

const port = fc.nat(0xffff);
const network = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .record({
        saddr: fc.nat(0xffff_ffff),
        id: fc.oneof(port, fc.integer({ min: 2000, max: 2100 })),
        ttl: fc.nat(255),
        tos: fc.nat(255),
        options: fc.uint8Array({ maxLength: 40 }),
      })
      .map((fields) => (p: Packet) => p.ipv4(fields)),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({
        ihl: fc.nat(15),
        totalLength: fc.nat(100),
        version: fc.constantFrom(4, 4, 5),
        moreFragments: fc.boolean(),
        fragmentOffset: fc.constantFrom(0, 0, 8),
      })
      .map((fields) => (p: Packet) => p.ipv4(fields)),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({ saddr: fc.uint8Array({ minLength: 16, maxLength: 16 }), payloadLength: fc.constantFrom(undefined, 0, 3, 7, 8, 19, 20) })
      .map(
        ({ saddr, payloadLength }) =>
          (p: Packet) =>
            p.ipv6({ saddr, ...(payloadLength === undefined ? {} : { payloadLength }) }),
      ),
  },
);
const transport = fc.oneof(
  fc.record({ sport: port, dport: port, seq: fc.nat(0xffff_ffff), syn: fc.boolean() }).map((fields) => (p: Packet) => p.tcp(fields)),
  fc.record({ sport: port, dport: port }).map((fields) => (p: Packet) => p.udp(fields)),
  fc.record({ id: port }).map((fields) => (p: Packet) => p.icmp(fields)),
  fc.record({ sequence: port }).map((fields) => (p: Packet) => p.icmpv6(fields)),
);
const frame = fc
  .record({ network, transport, payload: fc.uint8Array({ maxLength: 40 }), cut: fc.nat(200) })
  .map(({ network, transport, payload, cut }) => {
    const bytes = transport(network(packet())).payload(payload).bytes();
    return bytes.subarray(0, Math.max(14, cut > 100 ? bytes.length : Math.min(cut, bytes.length)));
  });
const fixed = [
  ...truncations(
    packet()
      .ipv4({ options: new Uint8Array(8) })
      .tcp({ syn: true })
      .payload(3),
    14,
  ),
  ...truncations(packet().ipv6().udp().payload(3), 14),
  ...fragments(packet().ipv4().udp().payload(50), 24),
];

interface Contents {
  getAll(): [key: unknown, value: unknown][];
  /** Of per-CPU maps. */
  sum?(key: unknown): unknown;
}

/** All entries as text, in order; values of all CPUs as one, modulo 2^32, since each CPU's wraps by itself. */
function contents(handle: Contents): string[] {
  const text = (value: unknown): string => JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part));
  return handle
    .getAll()
    .map(([key, value]) => text([key, handle.sum ? Number(handle.sum(key)) >>> 0 : value]))
    .sort();
}

/** Same outcome, packet, metadata and maps, packet after packet. */
async function agrees(engine: Engine, subject: AnyStage): Promise<void> {
  await using loaded = await runner(subject, { engine });
  const maps = new SimulatedMaps();
  const compare = async (bytes: Uint8Array): Promise<void> => {
    const expected = simulate(subject, bytes, { maps });
    const { durationNs, ...actual } = await loaded.run(bytes);
    expect(durationNs).toBeGreaterThanOrEqual(0);
    expect(actual.packet).toEqualPacket(expected.packet);
    expect({ ...actual, packet: undefined }).toEqual({
      verdict: expected.verdict,
      ...(expected.exit === undefined ? {} : { exit: expected.exit }),
      packet: undefined,
      meta: expected.meta,
    });
  };
  for (const bytes of fixed) await compare(bytes);
  await fc.assert(fc.asyncProperty(frame, compare), { numRuns: 400 });
  for (const map of loaded.compiled.maps.values()) {
    const [ours, theirs] = [simulatedHandle(maps, map), loaded.handle(map)].map((handle) => contents(handle as Contents));
    expect(theirs).toEqual(ours);
  }
}

/** The cases, on an engine. */
export function runSuite(engine: Engine): void {
  test('a stage runs, with its maps and every way out', async () => {
    await using loaded = await runner(acl, { engine });
    const handle = loaded.handle(blocked);
    handle.set({ prefixLen: 24, addr: ip('192.0.2.0') }, 5n);
    expect(await loaded.run(packet().ipv4({ saddr: '192.0.2.77' }).tcp())).toDrop();
    expect(await loaded.run(packet().ipv4({ saddr: '192.0.3.1' }).tcp())).toPass();
    expect(await loaded.run(packet().ipv4({ ttl: 1 }).tcp())).toExit('expired');
    expect(await loaded.run(packet().ipv6().tcp())).toNext();
    expect(handle.get({ prefixLen: 24, addr: ip('192.0.2.0') })).toBe(6n);
    expect(loaded.loaded(blocked).readAll().count).toBe(1);
    expect(loaded.compiled.program.name).toBe('acl');
  });

  test('one packet through a stage, on an engine of the caller', async () => {
    await using opened = await engine.open();
    const prepare = (loaded: Awaited<ReturnType<typeof runner>>): void => loaded.handle(blocked).set({ prefixLen: 0, addr: 0 }, 0n);
    expect(await run(acl, packet().ipv4().tcp(), { engine: opened, prepare })).toDrop();
    expect(await run(acl, packet().ipv4().tcp(), { engine })).toPass();
  });

  test('metadata goes in and out', async () => {
    const mark = stage({
      name: 'mark',
      hook: 'xdp',
      reads: { before: u16 },
      writes: { after: u32, flow: struct({ a: u8, b: u64 }) },
      program(ctx) {
        ctx.meta.after = ctx.meta.before + 1;
        ctx.meta.flow = { a: 7, b: 8n };
        return ctx.next();
      },
    });
    const result = await run(mark, packet().ipv4().udp(), { engine, meta: { before: 41 } });
    expect(result).toNext();
    expect(result.meta).toEqual({ before: 41, after: 42, flow: { a: 7, b: 8n } });
    expect(simulate(mark, packet().ipv4().udp(), { meta: { before: 41 } }).meta).toEqual(result.meta);
    await expect(run(mark, packet().ipv4().udp(), { engine, meta: { befor: 1 } })).rejects.toThrow(
      "metadata 'befor' is not declared by the stage",
    );
  });

  test('nothing stays open, also where a program is refused', async () => {
    const openFds = (): number => readdirSync('/proc/self/fd').length;
    await run(acl, packet().ipv4().tcp(), { engine });
    const before = openFds();
    await run(acl, packet().ipv4().tcp(), { engine });
    const bad = stage({ name: 'bad', hook: 'xdp', program: (ctx) => (ctx.length > Date.now() ? ctx.pass() : ctx.drop()) });
    await expect(runner(bad, { engine })).rejects.toThrow('Date');
    await expect(run(acl, new Uint8Array(3), { engine })).rejects.toThrow('14');
    expect(openFds()).toBe(before);
  });

  test.each([acl, probe, count, move])('the engine and the simulation agree on random packets: $name', async (subject) => {
    await agrees(engine, subject);
  });

  test("the packet's ends move as far as in the simulation", async () => {
    const head = (delta: number) =>
      stage({ name: 'head', hook: 'xdp', uses: { delta }, program: (ctx, { delta }) => (ctx.adjustHead(delta) ? ctx.pass() : ctx.drop()) });
    const tail = (delta: number) =>
      stage({ name: 'tail', hook: 'xdp', uses: { delta }, program: (ctx, { delta }) => (ctx.adjustTail(delta) ? ctx.pass() : ctx.drop()) });
    const hundred = packet().ipv4().udp().payload(58);
    for (const subject of [head(-216), head(-217), head(86), head(87), tail(3420), tail(3421), tail(-86), tail(-87)]) {
      expect((await run(subject, hundred, { engine })).verdict).toBe(simulate(subject, hundred).verdict);
    }
  });
}
