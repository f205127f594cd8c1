/** The balancer's stages do on every packet, on an engine, what their bodies do as plain JavaScript. */
import type { Engine } from '@tailrace/bpf';
import { ip, ipv6 } from '@tailrace/stage';
import { packet, truncations } from '@tailrace/testing';
import { expect, it } from 'vitest';
import { agree, type HandleOf } from '../agreement.ts';
import { cases, cases6, frames, frames6, withTags } from '../stage-frames.ts';
import { maglevTable } from '../structures/index.ts';
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
} from './index.ts';

/** The cases, on an engine. */
export function balancerStagesSuite(engine: Engine): void {
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
}
