/** Every stage, compiled and in the kernel, does on every packet what its body does as plain JavaScript. */
import { type AnyStage, ip, type PerCpuArrayHandle, type Resource } from '@tailrace/stage';
import { fragments, type Packet, packet, runner, SimulatedMaps, simulate, simulatedHandle, truncations } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { aclMaps, aclStage } from './acl/index.ts';
import { decapMaps, decapStage } from './decap/index.ts';
import { balancerTables, checksumSeed, encap, pick, RealState, tooBig, vip, vipKey } from './l4lb/index.ts';
import { maglevTable } from './structures/index.ts';

/** Gives the handle of a map or structure, of the simulation or of the kernel. */
type HandleOf = <H>(resource: Resource<unknown, H>) => H;
interface Case {
  readonly frame: Packet | Uint8Array;
  readonly meta?: Readonly<Record<string, unknown>>;
}

/** Runs the cases on both, one after the other over the same state, and returns the outcomes. */
async function agree(
  stage: AnyStage,
  cases: readonly Case[],
  prepare: (handleOf: HandleOf) => void,
  counters?: Resource<unknown, PerCpuArrayHandle<unknown>>,
  after?: (simulated: HandleOf, live: HandleOf) => void,
) {
  const maps = new SimulatedMaps();
  await using kernel = await runner(stage);
  prepare((resource) => simulatedHandle(maps, resource));
  prepare((resource) => kernel.handle(resource));
  const outcomes = new Map<string, number>();
  for (const { frame, meta = {} } of cases) {
    const expected = simulate(stage, frame, { maps, meta });
    const { durationNs: _, ...actual } = await kernel.run(frame, { meta });
    const { verdict, exit, redirect: __, packet: bytes, meta: left } = expected;
    expect(actual).toEqual({ verdict, ...(exit === undefined ? {} : { exit }), packet: bytes, meta: left });
    const outcome = exit ?? verdict;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  if (counters) {
    const [simulated, live] = [simulatedHandle(maps, counters), kernel.handle(counters)];
    for (let index = 0; index < live.size; index++) expect(live.sum(index)).toEqual(simulated.sum(index));
  }
  after?.(
    (resource) => simulatedHandle(maps, resource),
    (resource) => kernel.handle(resource),
  );
  return Object.fromEntries([...outcomes].sort());
}

/** Good packets, and what can be wrong with them. */
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

const cases = (ipv4?: Parameters<Packet['ipv4']>[0]): Case[] => frames(ipv4).map((frame) => ({ frame }));

describe('in the kernel as in JavaScript', () => {
  it('acl', async () => {
    const { blocked4, blocked6, hits, count } = aclMaps(8);
    const prepare = (handleOf: HandleOf): void => {
      handleOf(blocked4).set({ prefixLen: 24, addr: ip('192.0.2.0') }, 3);
      handleOf(blocked6).set({ prefixLen: 32, addr: { hi: 0x2001_0db8_0000_0000n, lo: 0n } }, 4);
    };
    const six = [...truncations(packet().ipv6().tcp(), 14)].map((frame) => ({ frame }));
    const all = [...cases(), ...cases({ saddr: '192.0.3.1' }), ...six];
    expect(await agree(aclStage.with({ blocked4, blocked6, count }), all, prepare, hits)).toMatchInlineSnapshot(`
      {
        "drop": 120,
        "next": 272,
      }
    `);
  });

  const addr = ip('198.51.100.1');

  it('vip', async () => {
    const { vips, vipTraffic } = balancerTables({ maxVips: 2 });
    const prepare = (handleOf: HandleOf): void => {
      const handle = handleOf(vips);
      handle.set(vipKey({ address: addr, port: 0, protocol: 0 }), 1);
      handle.set(vipKey({ address: addr, port: 80, protocol: 6 }), 1);
      handle.set(vipKey({ address: addr, port: 53, protocol: 17 }), 2);
    };
    const all = [...cases(), ...cases({ daddr: '198.51.100.2' })];
    expect(await agree(vip.with({ vips, vipTraffic }), all, prepare, vipTraffic)).toMatchInlineSnapshot(`
      {
        "fragment": 3,
        "malformed": 52,
        "next": 12,
        "notVip": 265,
      }
    `);
  });

  const setReals = (handleOf: HandleOf, reals: ReturnType<typeof balancerTables>['reals']): void => {
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
    expect(await agree(pick.with({ conns, ring, reals }), all, prepare, undefined, after)).toMatchInlineSnapshot(`
      {
        "next": 557,
        "noReal": 43,
      }
    `);
  });

  it('encap', async () => {
    const { reals, realTraffic } = balancerTables({ maxReals: 7 });
    const large = [1440, 1441, 2000].map((size) => packet().ipv4({ tos: 7 }).tcp().payload(size));
    const all = [...frames(), ...large].flatMap((frame) => [0, 1, 2, 9].map((real) => ({ frame, meta: { real } })));
    expect(
      await agree(encap.with({ reals, realTraffic }), all, (handleOf) => setReals(handleOf, reals), realTraffic),
    ).toMatchInlineSnapshot(`
      {
        "drop": 373,
        "redirect": 97,
        "tooBig": 12,
        "tx": 194,
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
    const all = [...large.map((frame) => ({ frame })), ...cases({ dontFragment })];
    expect(await agree(tooBig, all, () => undefined)).toMatchInlineSnapshot(`
      {
        "drop": 71,
        "tx": 100,
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
    const prepare = (handleOf: HandleOf): void => handleOf(tables.tunnels).set({ address: ip('10.0.1.1'), source: ip('10.0.0.1') }, true);
    const all = [...wrapped, ...cases(), ...cases({ daddr: '10.0.1.1', saddr: '10.0.0.1', protocol: 4 })];
    expect(await agree(decapStage.with({ ...tables, anySource: false }), all, prepare, tables.unpacked)).toMatchInlineSnapshot(`
      {
        "fragment": 5,
        "malformed": 209,
        "next": 304,
      }
    `);
  });
});
