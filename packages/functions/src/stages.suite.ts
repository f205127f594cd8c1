/** Every stage, compiled and run by an engine, does on every packet what its body does as plain JavaScript. */
import type { Engine } from '@tailrace/bpf';
import { type AnyStage, ip, ipv6, type PerCpuArrayHandle, type Resource } from '@tailrace/stage';
import { fragments, type Packet, packet, runner, SimulatedMaps, simulate, simulatedHandle, truncations } from '@tailrace/testing';
import { expect, it } from 'vitest';
import { aclMaps, aclStage } from './acl/index.ts';
import { decapMaps, decapStage } from './decap/index.ts';
import {
  balancerTables,
  checksumSeed,
  echo,
  encap,
  encap6,
  encap6in4,
  encapTagged,
  icmpError,
  pick,
  pick6,
  RealState,
  tooBig,
  tooBig6,
  vip,
  vipKey,
  vipKey6,
} from './l4lb/index.ts';
import { maglevTable } from './structures/index.ts';

/** Gives the handle of a map or structure, of the simulation or of the engine. */
type HandleOf = <H>(resource: Resource<unknown, H>) => H;

/** One packet, and the metadata that it comes with. */
interface Case {
  readonly frame: Packet | Uint8Array;
  readonly meta?: Readonly<Record<string, unknown>>;
}

/** Runs the cases on both, one after the other over the same state, and returns the outcomes. */
async function agree(
  engine: Engine,
  stage: AnyStage,
  cases: readonly Case[],
  prepare: (handleOf: HandleOf) => void,
  counters?: Resource<unknown, PerCpuArrayHandle<unknown>>,
  after?: (simulated: HandleOf, live: HandleOf) => void,
) {
  const maps = new SimulatedMaps();
  await using loaded = await runner(stage, { engine });
  prepare((resource) => simulatedHandle(maps, resource));
  prepare((resource) => loaded.handle(resource));
  const outcomes = new Map<string, number>();
  for (const { frame, meta = {} } of cases) {
    const expected = simulate(stage, frame, { maps, meta });
    const { durationNs: _, ...actual } = await loaded.run(frame, { meta });
    const { verdict, exit, reason, redirect: __, packet: bytes, meta: left } = expected;
    expect({ ...actual, packet: hex(actual.packet) }).toEqual({
      verdict,
      ...(exit === undefined ? {} : { exit }),
      ...(reason === undefined ? {} : { reason }),
      packet: hex(bytes),
      meta: left,
    });
    const outcome = exit ?? verdict;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  if (counters) {
    const [simulated, live] = [simulatedHandle(maps, counters), loaded.handle(counters)];
    for (let index = 0; index < live.size; index++) expect(live.sum(index)).toEqual(simulated.sum(index));
  }
  after?.(
    (resource) => simulatedHandle(maps, resource),
    (resource) => loaded.handle(resource),
  );
  return Object.fromEntries([...outcomes].sort());
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Good packets over IPv4, and what can be wrong with them. */
function frames(ipv4: Parameters<Packet['ipv4']>[0] = {}): (Packet | Uint8Array)[] {
  const tcp = packet().ipv4(ipv4).tcp({ syn: true }).payload('hello');
  const udp = packet().ipv4(ipv4).udp({ dport: 53 }).payload('hello');
  const options = (words: number) => new Uint8Array(4 * words).fill(1);
  return [
    tcp,
    udp,
    packet().ipv4(ipv4).tcp({ ack: true }),
    packet().ipv4(ipv4).tcp({ syn: true, ack: true }),
    packet().ipv4(ipv4).tcp({ dport: 81 }),
    packet().ipv4(ipv4).icmp(),
    packet().ipv6().tcp(),
    packet().ethernet({ etherType: 0x0806 }).payload(46),
    tcp.padTo(80),
    ...[1, 5, 10].map((words) =>
      packet()
        .ipv4({ ...ipv4, options: options(words) })
        .tcp(),
    ),
    ...[1, 5, 10].map((words) =>
      packet()
        .ipv4({ ...ipv4, options: options(words) })
        .udp({ dport: 53 }),
    ),
    ...fragments(packet().ipv4(ipv4).udp({ dport: 53 }).payload(100), 40),
    ...[0, 4, 15].map((ihl) =>
      packet()
        .ipv4({ ...ipv4, ihl })
        .tcp(),
    ),
    ...[0, 19, 20, 23, 24, 39, 40, 41, 1500, 65535].map((totalLength) =>
      packet()
        .ipv4({ ...ipv4, totalLength })
        .tcp(),
    ),
    ...[0, 5, 6, 15].map((version) =>
      packet()
        .ipv4({ ...ipv4, version })
        .tcp(),
    ),
    ...[...truncations(tcp, 14)],
    ...[...truncations(udp, 14)],
    ...[
      ...truncations(
        packet()
          .ipv4({ ...ipv4, options: options(3) })
          .tcp()
          .payload('x'),
        14,
      ),
    ],
  ];
}

/** The same over IPv6. */
function frames6(ipv6: Parameters<Packet['ipv6']>[0] = {}): (Packet | Uint8Array)[] {
  const over = (fields: Parameters<Packet['ipv6']>[0] = {}) => packet().ipv6({ ...ipv6, ...fields });
  const tcp = over().tcp({ syn: true }).payload('hello');
  const udp = over().udp({ dport: 53 }).payload('hello');
  return [
    tcp,
    udp,
    over().tcp({ ack: true }),
    over().tcp({ syn: true, ack: true }),
    over().tcp({ dport: 81 }),
    ...[0, 1, 2, 3, 4, 5, 128, 129, 133, 135, 136].map((type) => over().icmpv6({ type }).payload(24)),
    tcp.padTo(120),
    ...fragments(over().udp({ dport: 53 }).payload(100), 40),
    ...[0, 3, 4, 7, 8, 19, 20, 25, 26, 1500, 65535].flatMap((payloadLength) => [
      over({ payloadLength }).tcp().payload('hello'),
      over({ payloadLength }).icmpv6().payload('hello'),
    ]),
    ...[0, 4, 5, 7, 15].map((version) => over({ version }).tcp()),
    over().hopByHop().tcp(),
    over().destination().routing().udp({ dport: 53 }),
    over().hopByHop().fragment({ moreFragments: false }).tcp(),
    over().destination().icmpv6(),
    over().destination().icmpv6({ type: 1 }).payload(60),
    ...[0, 4, 41, 43, 59, 60, 255].map((nextHeader) => over({ nextHeader }).payload(30)),
    ...truncations(tcp, 14),
    ...truncations(udp, 14),
    ...truncations(over().icmpv6().payload('hello'), 14),
  ];
}

/** The same frame behind VLAN tags. */
function tagged(frame: Packet | Uint8Array, ...tags: readonly number[]): Uint8Array {
  const bytes = frame instanceof Uint8Array ? frame : frame.bytes();
  return Uint8Array.from([...bytes.subarray(0, 12), ...tags.flatMap((id) => [0x81, 0, id >> 8, id & 255]), ...bytes.subarray(12)]);
}
const withTags = (list: readonly (Packet | Uint8Array)[]): (Packet | Uint8Array)[] =>
  list.flatMap((frame) => [frame, tagged(frame, 7), tagged(frame, 7, 0xabc)]);

const cases = (ipv4?: Parameters<Packet['ipv4']>[0]): Case[] => withTags(frames(ipv4)).map((frame) => ({ frame }));
const cases6 = (fields?: Parameters<Packet['ipv6']>[0]): Case[] => withTags(frames6(fields)).map((frame) => ({ frame }));

/** The cases, on an engine. */
export function stagesSuite(engine: Engine): void {
  it('acl', async () => {
    const { blocked4, blocked6, hits, count } = aclMaps(8);
    const prepare = (handleOf: HandleOf): void => {
      handleOf(blocked4).set({ prefixLen: 24, addr: ip('192.0.2.0') }, 3);
      handleOf(blocked6).set({ prefixLen: 32, addr: { hi: 0x2001_0db8_0000_0000n, lo: 0n } }, 4);
    };
    const six = [...truncations(packet().ipv6().tcp(), 14)].map((frame) => ({ frame }));
    const all = [...cases(), ...cases({ saddr: '192.0.3.1' }), ...six];
    expect(await agree(engine, aclStage.with({ blocked4, blocked6, count }), all, prepare, hits)).toMatchInlineSnapshot(`
      {
        "drop": 320,
        "next": 736,
      }
    `);
  });

  type Tables = ReturnType<typeof balancerTables>;
  const setVips = (handleOf: HandleOf, vips: Tables['vips'], vips6: Tables['vips6']): void => {
    const [address, address6] = [ip('198.51.100.1'), ipv6('2001:db8::2')];
    for (const [port, protocol, value] of [
      [0, 0, 1],
      [80, 6, 1],
      [53, 17, 2],
    ] as const) {
      handleOf(vips).set(vipKey({ address, port, protocol }), value);
      handleOf(vips6).set(vipKey6({ address: address6, port, protocol }), port === 0 ? 1 : value + 2);
    }
  };

  it('vip', async () => {
    const { vips, vips6, vipTraffic } = balancerTables({ maxVips: 4 });
    const all = [...cases(), ...cases({ daddr: '198.51.100.2' }), ...cases6(), ...cases6({ daddr: '2001:db8::3' })];
    const prepare = (handleOf: HandleOf): void => setVips(handleOf, vips, vips6);
    expect(await agree(engine, vip.with({ vips, vips6, vipTraffic }), all, prepare, vipTraffic)).toMatchInlineSnapshot(`
      {
        "echo": 23,
        "fragment": 18,
        "icmpError": 15,
        "ipv6": 59,
        "malformed": 241,
        "next": 61,
        "notVip": 1959,
      }
    `);
  });

  const setReals = (handleOf: HandleOf, reals: Tables['reals']): void => {
    for (const real of [1, 2, 3]) {
      const addresses = { address: ip(`10.0.1.${real}`), source: ip('10.0.0.1') };
      const state = real === 3 ? RealState.down : RealState.up;
      handleOf(reals).set(real, {
        ...addresses,
        hop: 0x0200_0000_1000 + real,
        own: 0x0200_0000_2000,
        state,
        seed: checksumSeed(addresses),
        ifindex: real === 2 ? 1 : 0,
        fits: 1_480,
        vip: 1,
      });
    }
  };

  it('pick', async () => {
    const tables = balancerTables({ maxVips: 3, maxReals: 7, flows: 256, flowsPerCpu: 128, shards: 2 });
    const prepare = (handleOf: HandleOf): void => {
      setReals(handleOf, tables.reals);
      const members = [1, 2, 3].map((value) => ({ name: `10.0.1.${value}`, weight: value, value }));
      handleOf(tables.ring).set(0, maglevTable(members));
      handleOf(tables.ring).set(1, maglevTable(members.slice(0, 1)));
    };
    const meta = (client: number, index: number, fresh: boolean) => ({
      flow: ((BigInt(client) * 0x0001_0003n) << 16n) | BigInt(index),
      fresh,
    });
    const all = Array.from({ length: 600 }, (_, i) => ({ frame: packet(), meta: meta(i % 150, i % 7 === 0 ? i % 4 : 0, i % 5 === 0) }));
    const { conns, ring, reals } = tables;
    const after = (simulated: HandleOf, live: HandleOf): void => {
      const sorted = (handleOf: HandleOf) => [...handleOf(conns).flows()].sort((a, b) => (a.key < b.key ? -1 : 1));
      expect(sorted(live)).toEqual(sorted(simulated));
      expect(sorted(live).length).toBeGreaterThan(100);
      expect(live(conns).forget(({ value }) => value === 1)).toBeGreaterThan(0);
      expect(sorted(live)).toEqual(sorted(simulated).filter(({ value }) => value !== 1));
    };
    expect(await agree(engine, pick.with({ conns, ring, reals }), all, prepare, undefined, after)).toMatchInlineSnapshot(`
      {
        "next": 557,
        "noReal": 43,
      }
    `);
  });

  it('encap', async () => {
    const { reals, realTraffic } = balancerTables({ maxReals: 7 });
    const large = [1440, 1441, 2000].map((size) => packet().ipv4({ tos: 7 }).tcp().payload(size));
    const all = withTags([...frames(), ...large]).flatMap((frame) => [0, 1, 2, 9].map((real) => ({ frame, meta: { real } })));
    expect(
      await agree(engine, encap.with({ reals, realTraffic }), all, (handleOf) => setReals(handleOf, reals), realTraffic),
    ).toMatchInlineSnapshot(`
      {
        "drop": 917,
        "over6": 100,
        "redirect": 97,
        "tagged": 808,
        "tooBig": 8,
        "tx": 98,
      }
    `);
  });

  /** Reals 4 to 6, with IPv6 addresses. */
  const setNear6 = (handleOf: HandleOf, reals: Tables['reals']): void => {
    for (const real of [4, 5, 6]) {
      const hops = { hop: 0x0200_0000_1000 + real, own: 0x0200_0000_2000, ifindex: real === 5 ? 1 : 0 };
      handleOf(reals).set(real, {
        ...hops,
        address: 0,
        source: 0,
        seed: 0,
        fits: 0,
        vip: 1,
        state: real === 6 ? RealState.down : RealState.up,
      });
    }
  };
  const setFar6 = (handleOf: HandleOf, reals6: Tables['reals6']): void => {
    for (const real of [4, 5, 6]) handleOf(reals6).set(real, { address: ipv6(`fd00:1::${real}`), source: ipv6('fd00::1'), fits: 1_460 });
  };

  it('pick6', async () => {
    const tables = balancerTables({ maxVips: 3, maxReals: 7, flows: 256, flowsPerCpu: 128, flows6: 128, shards: 2 });
    const prepare = (handleOf: HandleOf): void => {
      setReals(handleOf, tables.reals);
      setNear6(handleOf, tables.reals);
      const members = [1, 3, 4, 5, 6].map((value) => ({ name: `real ${value}`, weight: value, value }));
      handleOf(tables.ring).set(0, maglevTable(members));
      handleOf(tables.ring).set(1, maglevTable(members.slice(0, 1)));
    };
    const meta = (client: number, index: number, fresh: boolean) => ({
      clientHi: 0x2001_0db8_0000_0000n + BigInt(client % 3),
      clientLo: BigInt(client) * 0x0001_0003n,
      flow: (BigInt(client % 5) << 16n) | BigInt(index),
      fresh,
    });
    const all = Array.from({ length: 600 }, (_, i) => ({ frame: packet(), meta: meta(i % 150, i % 7 === 0 ? i % 4 : 0, i % 5 === 0) }));
    const { conns6, ring, reals } = tables;
    const after = (simulated: HandleOf, live: HandleOf): void => {
      const flows = (handleOf: HandleOf) => [...handleOf(conns6).flows()];
      expect(flows(live)).toEqual(flows(simulated));
      expect(flows(live).length).toBeGreaterThan(80);
    };
    expect(await agree(engine, pick6.with({ conns6, ring, reals }), all, prepare, undefined, after)).toMatchInlineSnapshot(`
      {
        "next": 557,
        "noReal": 43,
      }
    `);
  });

  it('encap6', async () => {
    const { reals, reals6, realTraffic } = balancerTables({ maxReals: 7 });
    const large = [1412, 1413, 2000].flatMap((size) => [
      packet().ipv6().udp().payload(size),
      packet()
        .ipv4()
        .udp()
        .payload(size + 20),
    ]);
    const marked = [packet().ipv6({ trafficClass: 0xff, flowLabel: 0xfffff }).tcp(), packet().ipv4({ tos: 0xff }).tcp()];
    const all = withTags([...frames().slice(0, 40), ...frames6().slice(0, 40), ...large, ...marked]).flatMap((frame) =>
      [0, 1, 4, 5, 9].map((real) => ({ frame, meta: { real } })),
    );
    const prepare = (handleOf: HandleOf): void => {
      setReals(handleOf, reals);
      setNear6(handleOf, reals);
      setFar6(handleOf, reals6);
    };
    expect(await agree(engine, encap6.with({ reals, reals6, realTraffic }), all, prepare, realTraffic)).toMatchInlineSnapshot(`
      {
        "drop": 504,
        "over4": 90,
        "redirect": 68,
        "tagged": 574,
        "tooBig": 8,
        "tooBig6": 8,
        "tx": 68,
      }
    `);
  });

  it('encap6in4', async () => {
    const { reals, realTraffic } = balancerTables({ maxReals: 7 });
    const large = [1432, 1433, 2000].map((size) => packet().ipv6().udp().payload(size));
    const marked = packet().ipv6({ trafficClass: 0xff, flowLabel: 0xfffff }).tcp();
    const all = withTags([...frames().slice(0, 20), ...frames6(), ...large, marked]).flatMap((frame) =>
      [0, 1, 2, 4, 9].map((real) => ({ frame, meta: { real } })),
    );
    const prepare = (handleOf: HandleOf): void => {
      setReals(handleOf, reals);
      setNear6(handleOf, reals);
    };
    expect(await agree(engine, encap6in4.with({ reals, realTraffic }), all, prepare, realTraffic)).toMatchInlineSnapshot(`
      {
        "drop": 2490,
        "redirect": 104,
        "tagged": 1100,
        "tooBig6": 12,
        "tx": 104,
      }
    `);
  });

  it('encapTagged', async () => {
    const { reals, reals6, realTraffic } = balancerTables({ maxReals: 7 });
    const large = [1412, 1413, 1432, 1433, 1452, 1453].flatMap((size) => [
      packet().ipv6({ trafficClass: 0xff, flowLabel: 0xfffff }).udp().payload(size),
      packet().ipv4({ tos: 0xff }).udp().payload(size),
    ]);
    const all = withTags([...frames().slice(0, 60), ...frames6().slice(0, 60), ...large]).flatMap((frame) =>
      [0, 1, 2, 4, 5, 9].map((real) => ({ frame, meta: { real } })),
    );
    const prepare = (handleOf: HandleOf): void => {
      setReals(handleOf, reals);
      setNear6(handleOf, reals);
      setFar6(handleOf, reals6);
    };
    expect(await agree(engine, encapTagged.with({ reals, reals6, realTraffic }), all, prepare, realTraffic)).toMatchInlineSnapshot(`
      {
        "drop": 1392,
        "redirect": 456,
        "tooBig": 24,
        "tooBig6": 48,
        "tx": 456,
      }
    `);
  });

  it('echo', async () => {
    const ask = [56, 1400].flatMap((size) => [
      packet().ipv4({ ttl: 1, tos: 7 }).icmp({ code: 3 }).payload(size),
      packet().ipv6({ hopLimit: 1 }).icmpv6({ code: 3 }).payload(size),
      packet().ipv4({ checksum: 0 }).icmp({ checksum: 0 }).payload(size),
      packet().ipv4({ checksum: 0xffff }).icmp({ checksum: 0xffff }).payload(size),
      packet().ipv6().icmpv6({ checksum: 0xffff }).payload(size),
    ]);
    const nobody = [
      ...['0.0.0.0', '223.255.255.255', '224.0.0.1', '255.255.255.255'].map((saddr) => packet().ipv4({ saddr }).icmp()),
      ...['::', '::1', 'fe80::1', 'ff02::1'].map((saddr) => packet().ipv6({ saddr }).icmpv6()),
    ];
    const all = [...[...ask, ...nobody].map((frame) => ({ frame })), ...cases({ protocol: 1 }), ...cases6()];
    expect(await agree(engine, echo, all, () => undefined)).toMatchInlineSnapshot(`
      {
        "drop": 956,
        "tx": 250,
      }
    `);
  });

  it('icmpError', async () => {
    const { vips, vips6, vipTraffic } = balancerTables({ maxVips: 4 });
    const quotes = frames({ saddr: '198.51.100.1' }).map((about) => (about instanceof Uint8Array ? about : about.bytes()).subarray(14));
    const quotes6 = frames6({ saddr: '2001:db8::2' }).map((about) => (about instanceof Uint8Array ? about : about.bytes()).subarray(14));
    const own = (sport: number) => packet().ipv4({ saddr: '198.51.100.1' }).tcp({ sport }).bytes().subarray(14);
    const own6 = (sport: number) => packet().ipv6({ saddr: '2001:db8::2' }).tcp({ sport }).bytes().subarray(14);
    const options = packet()
      .ipv4({ saddr: '198.51.100.1', options: new Uint8Array(40).fill(1) })
      .tcp({ sport: 80 })
      .bytes()
      .subarray(14);
    const inIpv4 = withTags([...quotes, own(80), own(81), options].map((quoted) => packet().ipv4().icmp({ type: 3 }).payload(quoted)));
    const inIpv6 = withTags([...quotes6, own6(80), own6(81)].map((quoted) => packet().ipv6().icmpv6({ type: 2 }).payload(quoted)));
    const all = [
      ...[...inIpv4, ...inIpv6].map((frame) => ({ frame })),
      ...[own(80), options].flatMap((quoted) =>
        [...truncations(packet().ipv4().icmp({ type: 3 }).payload(quoted), 14)].map((frame) => ({ frame })),
      ),
      ...[...truncations(packet().ipv6().icmpv6({ type: 2 }).payload(own6(80)), 14)].map((frame) => ({ frame })),
      ...Array.from({ length: 30 }, (_, i) => ({
        frame: packet()
          .ipv4({ totalLength: 26 + i })
          .icmp({ type: 3 })
          .payload(own(80)),
      })),
      ...Array.from({ length: 60 }, (_, i) => ({ frame: packet().ipv6({ payloadLength: i }).icmpv6({ type: 2 }).payload(own6(80)) })),
      ...cases(),
      ...cases6(),
    ];
    const prepare = (handleOf: HandleOf): void => setVips(handleOf, vips, vips6);
    expect(await agree(engine, icmpError.with({ vips, vips6, vipTraffic }), all, prepare, vipTraffic)).toMatchInlineSnapshot(`
      {
        "ipv6": 23,
        "next": 38,
        "noFlow": 2704,
      }
    `);
  });

  it('tooBig6', async () => {
    const meta = { fits: 1_460 };
    const large = [
      packet().ipv6().tcp().payload(1440),
      packet().ipv6().udp().payload(1472),
      packet().ipv6({ trafficClass: 0xff }).udp().payload(3000),
      ...['::', '::1', 'fe80::1', 'ff02::1'].map((saddr) => packet().ipv6({ saddr }).tcp().payload(1440)),
      packet().ipv6().icmpv6({ type: 2 }).payload(1440),
    ];
    const all = withTags([...large, ...frames6(), ...frames().slice(0, 20)]).map((frame) => ({ frame, meta }));
    expect(await agree(engine, tooBig6, all, () => undefined)).toMatchInlineSnapshot(`
      {
        "drop": 552,
        "tx": 222,
      }
    `);
  });

  it('tooBig', async () => {
    const dontFragment = true;
    const large = [
      packet().ipv4({ dontFragment }).tcp().payload(1460),
      packet()
        .ipv4({ dontFragment, options: new Uint8Array(40).fill(1) })
        .tcp()
        .payload(1400),
      packet().ipv4().tcp().payload(1460),
      packet().ipv4({ dontFragment, saddr: '224.0.0.1' }).tcp().payload(1460),
      packet().ipv4({ dontFragment, saddr: '0.0.0.0' }).tcp().payload(1460),
    ];
    const all = [...withTags(large).map((frame) => ({ frame, meta: { fits: 1_480 } })), ...cases({ dontFragment })];
    expect(await agree(engine, tooBig, all, () => undefined)).toMatchInlineSnapshot(`
      {
        "drop": 216,
        "tx": 297,
      }
    `);
  });

  it('decap', async () => {
    const tables = decapMaps(4);
    const outer = (fields: Parameters<Packet['ipv4']>[0], inside: Parameters<Packet['ipv4']>[0] = {}) =>
      packet()
        .ipv4({ saddr: '10.0.0.1', daddr: '10.0.1.1', ...fields })
        .ipv4(inside)
        .tcp()
        .payload('hello');
    const options = new Uint8Array(12).fill(1);
    const wrapped = [
      outer({}),
      outer({ options }),
      outer({}, { options }),
      outer({ daddr: '10.0.1.2' }),
      outer({ saddr: '10.0.0.2' }),
      ...[0, 1, 2, 3, 0xff].flatMap((tos) => [0, 1, 2, 3, 0x28].map((inside) => outer({ tos }, { tos: inside }))),
      ...[20, 40, 65, 66, 1500].map((totalLength) => outer({ totalLength })),
      ...[0, 20, 45, 46, 1500].map((totalLength) => outer({}, { totalLength })),
      outer({}, { version: 6 }),
      outer({}, { ihl: 4 }),
      ...fragments(outer({}), 24),
      ...truncations(outer({}), 14),
      ...truncations(outer({ options }), 14),
    ].map((frame) => ({ frame }));
    const prepare = (handleOf: HandleOf): void => {
      handleOf(tables.tunnels).set({ address: ip('10.0.1.1'), source: ip('10.0.0.1') }, true);
      handleOf(tables.tunnels6).set({ address: ipv6('fd00:1::1'), source: ipv6('fd00::1') }, true);
    };
    const outer6 = (fields: Parameters<Packet['ipv6']>[0] = {}) => packet().ipv6({ saddr: 'fd00::1', daddr: 'fd00:1::1', ...fields });
    const inside = (of: Packet, tos: number) => [
      of.ipv4({ tos }).tcp().payload('hello'),
      of.ipv6({ trafficClass: tos }).tcp().payload('hello'),
    ];
    const shapes = [
      ...[0, 1, 2, 3, 0xff].flatMap((tos) =>
        [0, 1, 2, 3, 0x28].flatMap((inner) => [
          ...inside(packet().ipv4({ saddr: '10.0.0.1', daddr: '10.0.1.1', tos }), inner),
          ...inside(outer6({ trafficClass: tos }), inner),
        ]),
      ),
      ...inside(outer6(), 0).flatMap((frame) => [...truncations(frame, 14)]),
      ...inside(outer6({ daddr: 'fd00:1::2' }), 0),
      ...inside(outer6({ saddr: 'fd00::2' }), 0),
      ...[0, 20, 44, 45, 64, 65, 66, 1500].flatMap((payloadLength) => inside(outer6({ payloadLength }), 0)),
      ...frames6().flatMap((frame) => {
        const bytes = (frame instanceof Uint8Array ? frame : frame.bytes()).subarray(14);
        return [outer6({ nextHeader: 41 }).payload(bytes), outer6({ nextHeader: 4 }).payload(bytes)];
      }),
      ...frames().map((frame) => outer6({ nextHeader: 4 }).payload((frame instanceof Uint8Array ? frame : frame.bytes()).subarray(14))),
    ].map((frame) => ({ frame }));
    const onVlans = [...wrapped, ...shapes]
      .slice(0, 150)
      .flatMap(({ frame }) => [{ frame: tagged(frame, 7) }, { frame: tagged(frame, 7, 8) }]);
    const all = [...wrapped, ...shapes, ...onVlans, ...cases(), ...cases({ daddr: '10.0.1.1', saddr: '10.0.0.1', protocol: 4 })];
    expect(await agree(engine, decapStage.with({ ...tables, anySource: false }), all, prepare, tables.unpacked)).toMatchInlineSnapshot(`
      {
        "fragment": 15,
        "malformed": 1252,
        "next": 1151,
      }
    `);
  });
}
