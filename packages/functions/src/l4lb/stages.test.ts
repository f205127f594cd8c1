import '@tailrace/testing/matchers';
import { ip } from '@tailrace/stage';
import { checksum, fragments, type Packet, packet, parse, SimulatedMaps, simulate, simulatedHandle, truncations } from '@tailrace/testing';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { maglevTable } from '../structures/maglev.ts';
import { checksumSeed, encap } from './encap.ts';
import { pick } from './pick.ts';
import { balancerTables, RealState, vipKey } from './tables.ts';
import { tooBig } from './too-big.ts';
import { vip } from './vip.ts';

const SOURCE = ip('10.0.0.1');
const address = (real: number): number => ip(`10.0.1.${real}`);

/** A balancer with one TCP vip (index 0) and one UDP vip (1) on 198.51.100.1, and reals 1 to 3. */
function balancer() {
  const tables = balancerTables({ maxVips: 2, maxReals: 7, flows: 256, flowsPerCpu: 128, shards: 2 });
  const maps = new SimulatedMaps();
  const handle = {
    vips: simulatedHandle(maps, tables.vips),
    reals: simulatedHandle(maps, tables.reals),
    ring: simulatedHandle(maps, tables.ring),
    conns: simulatedHandle(maps, tables.conns),
    vipTraffic: simulatedHandle(maps, tables.vipTraffic),
    realTraffic: simulatedHandle(maps, tables.realTraffic),
  };
  const vipAddress = ip('198.51.100.1');
  handle.vips.set(vipKey({ address: vipAddress, port: 0, protocol: 0 }), 1);
  handle.vips.set(vipKey({ address: vipAddress, port: 80, protocol: 6 }), 1);
  handle.vips.set(vipKey({ address: vipAddress, port: 53, protocol: 17 }), 2);
  const setReal = (real: number, state: number = RealState.up, ifindex = 0): void => {
    const addresses = { address: address(real), source: SOURCE };
    handle.reals.set(real, {
      ...addresses,
      hop: 0x0200_0000_1000 + real,
      own: 0x0200_0000_2000,
      state,
      seed: checksumSeed(addresses),
      ifindex,
      fits: 1_480,
      vip: 1,
    });
  };
  for (const real of [1, 2, 3]) setReal(real);
  const setRing = (reals: readonly number[]): void => {
    for (const index of [0, 1]) handle.ring.set(index, maglevTable(reals.map((value) => ({ name: `10.0.1.${value}`, weight: 1, value }))));
  };
  setRing([1, 2, 3]);
  const stages = {
    vip: vip.with({ vips: tables.vips, vipTraffic: tables.vipTraffic }),
    pick: pick.with({ conns: tables.conns, ring: tables.ring, reals: tables.reals }),
    encap: encap.with({ reals: tables.reals, realTraffic: tables.realTraffic }),
  };
  return {
    ...handle,
    setReal,
    setRing,
    vip: (frame: Packet | Uint8Array) => simulate(stages.vip, frame, { maps }),
    pick: (meta: { flow: bigint; fresh: boolean }, cpu = 0) => simulate(stages.pick, packet(), { maps, meta, cpu }),
    encap: (frame: Packet | Uint8Array, real: number) => simulate(stages.encap, frame, { maps, meta: { real } }),
  };
}

let lb: ReturnType<typeof balancer>;
beforeEach(() => {
  lb = balancer();
});

const tcp = (fields: Parameters<Packet['tcp']>[0] = {}) => packet().ipv4().tcp(fields);
const udp = (fields: Parameters<Packet['udp']>[0] = {}) => packet().ipv4().udp(fields);
const flowOf = (sport: number, index = 0): bigint => (BigInt(ip('192.0.2.1')) << 32n) | (BigInt(sport) << 16n) | BigInt(index);

describe('vip', () => {
  it('finds the flow of a packet to a vip', () => {
    expect(lb.vip(tcp({ sport: 1234 }))).toNext();
    expect(lb.vip(tcp({ sport: 1234 })).meta).toMatchObject({ flow: flowOf(1234), fresh: false });
    expect(lb.vip(udp({ sport: 65535 })).meta).toMatchObject({ flow: flowOf(65535, 1), fresh: false });
  });

  it('counts per vip', () => {
    lb.vip(tcp().payload(100));
    lb.vip(tcp());
    lb.vip(udp().payload('question'));
    expect([0, 1].map((index) => lb.vipTraffic.sum(index))).toEqual([
      { packets: 2n, bytes: 208n },
      { packets: 1n, bytes: 50n },
    ]);
  });

  it('says which packets open a connection', () => {
    const fresh = (fields: Parameters<Packet['tcp']>[0]) => lb.vip(tcp(fields)).meta.fresh;
    expect([fresh({ syn: true }), fresh({ syn: true, ece: true, cwr: true })]).toEqual([true, true]);
    expect([fresh({ syn: true, ack: true }), fresh({ ack: true }), fresh({ rst: true }), fresh({ fin: true, ack: true })]).toEqual([
      false,
      false,
      false,
      false,
    ]);
  });

  it('leaves alone what is not for a vip', () => {
    expect(lb.vip(tcp({ dport: 81 }))).toExit('notVip');
    expect(lb.vip(udp({ dport: 80 }))).toExit('notVip');
    expect(lb.vip(packet().ipv4({ daddr: '198.51.100.2' }).tcp())).toExit('notVip');
    expect(lb.vip(packet().ipv4({ daddr: '198.51.100.2' }).icmp())).toExit('notVip');
    for (const type of [0, 5, 13]) expect(lb.vip(packet().ipv4().icmp({ type }))).toExit('notVip');
    expect(lb.vip(packet().ipv4({ protocol: 0 }).payload(20))).toExit('notVip');
    expect(lb.vip(packet().ipv6().tcp())).toExit('notVip');
    expect(lb.vip(packet().ethernet({ etherType: 0x0806 }).payload(46))).toExit('notVip');
  });

  it('reads behind IP options', () => {
    for (let words = 1; words <= 10; words++) {
      const options = new Uint8Array(words * 4).fill(1);
      expect(lb.vip(packet().ipv4({ options }).tcp({ sport: 7 })).meta).toMatchObject({ flow: flowOf(7), fresh: false });
      expect(lb.vip(packet().ipv4({ options }).udp({ sport: 7 })).meta).toMatchObject({ flow: flowOf(7, 1), fresh: false });
    }
  });

  it('takes fragments to a vip apart from those to others', () => {
    for (const fragment of fragments(udp().payload(100), 24)) expect(lb.vip(fragment)).toExit('fragment');
    for (const fragment of fragments(packet().ipv4({ daddr: '198.51.100.2' }).udp().payload(100), 24))
      expect(lb.vip(fragment)).toExit('notVip');
    expect(lb.vipTraffic.sum(1)).toEqual({ packets: 0n, bytes: 0n });
  });

  it('finds bad lengths', () => {
    // longer than the packet
    expect(lb.vip(packet().ipv4({ totalLength: 41 }).tcp())).toExit('malformed');
    expect(lb.vip(packet().ipv4({ totalLength: 65535 }).udp())).toExit('malformed');
    // too short for its header
    expect(lb.vip(packet().ipv4({ totalLength: 39 }).tcp())).toExit('malformed');
    expect(lb.vip(packet().ipv4({ totalLength: 23 }).tcp())).toExit('notVip');
    expect(lb.vip(packet().ipv4({ ihl: 4 }).tcp())).toExit('notVip');
    expect(lb.vip(packet().ipv4({ ihl: 15 }).tcp())).toExit('notVip');
    // Ethernet's padding is no fault
    expect(lb.vip(tcp().padTo(60))).toNext();
  });

  it('never hands on what is cut short', () => {
    for (const frame of [
      tcp().payload(5),
      udp().payload(5),
      packet()
        .ipv4({ options: new Uint8Array(8) })
        .tcp()
        .payload(3),
    ])
      for (const cut of truncations(frame)) expect(['notVip', 'malformed']).toContain(lb.vip(cut).exit);
  });
});

describe('pick', () => {
  const real = (flow: bigint, fresh = false, cpu = 0): unknown => lb.pick({ flow, fresh }, cpu).meta.real;
  const flows = Array.from({ length: 60 }, (_, i) => flowOf(1000 + i));

  it('spreads flows over the reals', () => {
    const counts = new Map<unknown, number>();
    for (let i = 0; i < 600; i++) counts.set(real(flowOf(i)), (counts.get(real(flowOf(i))) ?? 0) + 1);
    expect([...counts.keys()].sort()).toEqual([1, 2, 3]);
    for (const count of counts.values()) expect(Math.abs(count - 200)).toBeLessThan(60);
  });

  it('sends flows of one client to the same real of either vip, and of any numbering', () => {
    for (let i = 0; i < 20; i++) expect(real(flowOf(i, 1))).toBe(real(flowOf(i, 0)));
  });

  it('keeps flows where they are when reals come and go', () => {
    const before = flows.map((flow) => real(flow, true));
    lb.setReal(4);
    lb.setRing([2, 3, 4]);
    expect(flows.map((flow) => real(flow))).toEqual(before);
    // and on a CPU that has never seen them
    expect(flows.map((flow) => real(flow, false, 1))).toEqual(before);
    expect(flows.map((flow) => real(flow, false, 1))).toEqual(before);
  });

  it('hashes anew for a packet that opens a connection', () => {
    const before = flows.map((flow) => real(flow, true));
    lb.setRing([2, 3]);
    const after = flows.map((flow) => real(flow, true));
    expect(after.every((chosen) => chosen !== 1)).toBe(true);
    expect(before).toContain(1);
    expect(flows.map((flow) => real(flow))).toEqual(after);
  });

  it('picks anew for flows of a dead real only', () => {
    const before = flows.map((flow) => real(flow, true));
    lb.setRing([2, 3]);
    lb.setReal(1, RealState.down);
    const after = flows.map((flow) => real(flow));
    for (const [i, chosen] of after.entries()) {
      if (before[i] === 1) expect([2, 3]).toContain(chosen);
      else expect(chosen).toBe(before[i]);
    }
    // back again: they stay where they went
    lb.setReal(1);
    lb.setRing([1, 2, 3]);
    expect(flows.map((flow) => real(flow))).toEqual(after);
  });

  it('keeps the flows of a real that drains', () => {
    const before = flows.map((flow) => real(flow, true));
    lb.setRing([2, 3]);
    expect(flows.map((flow) => real(flow))).toEqual(before);
  });

  it('leaves where there is nobody', () => {
    lb.setRing([]);
    expect(lb.pick({ flow: flowOf(1), fresh: true })).toExit('noReal');
    expect(lb.pick({ flow: flowOf(1), fresh: false })).toExit('noReal');
    lb.setRing([1]);
    expect(lb.pick({ flow: flowOf(1), fresh: false })).toNext();
  });
});

describe('encap', () => {
  const inner = () =>
    packet()
      .ethernet({ src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' })
      .ipv4({ tos: 0xb9, dontFragment: true })
      .tcp()
      .payload('request');

  it('puts the packet into an outer header, whole', () => {
    const sent = lb.encap(inner(), 2);
    expect(sent).toTx();
    expect(sent).toEqualPacket(
      packet()
        .ethernet({ src: '02:00:00:00:00:02', dst: '02:00:00:00:10:02' })
        .ipv4({ saddr: '10.0.0.1', daddr: '10.0.1.2', tos: 0xb9, dontFragment: true })
        .ipv4({ tos: 0xb9, dontFragment: true })
        .tcp()
        .payload('request'),
    );
    expect(sent).toHaveValidChecksums();
  });

  it('leaves through another interface where the real has one', () => {
    lb.setReal(2, RealState.up, 7);
    const sent = lb.encap(inner(), 2);
    expect(sent).toRedirect(7);
    expect(parse(sent.packet)[0]?.fields).toMatchObject({ src: '02:00:00:00:20:00', dst: '02:00:00:00:10:02' });
  });

  it('has a valid checksum whatever the header holds', () => {
    const octet = fc.nat(255);
    fc.assert(
      fc.property(octet, fc.nat(1440), fc.nat(0xffff_ffff), fc.nat(0xffff_ffff), (tos, size, source, daddr) => {
        const addresses = { address: daddr, source };
        lb.reals.set(5, { ...addresses, hop: 1, own: 2, state: 1, seed: checksumSeed(addresses), ifindex: 0, fits: 1_480, vip: 1 });
        const sent = lb.encap(packet().ipv4({ tos }).tcp().payload(size), 5).packet;
        expect(checksum(sent.subarray(14, 34))).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  it('counts per real', () => {
    lb.encap(inner(), 2);
    lb.encap(inner(), 2);
    expect(lb.realTraffic.sum(2)).toEqual({ packets: 2n, bytes: 122n });
    expect(lb.realTraffic.sum(1)).toEqual({ packets: 0n, bytes: 0n });
  });

  it('sends the largest packet that fits and no larger one', () => {
    expect(lb.encap(packet().ipv4().tcp().payload(1440), 1)).toTx();
    expect(lb.encap(packet().ipv4().tcp().payload(1441), 1)).toExit('tooBig');
    expect(lb.realTraffic.sum(1)).toEqual({ packets: 1n, bytes: 1494n });
  });

  it('carries Ethernet padding along, outside of the outer length', () => {
    const sent = lb.encap(packet().ipv4().tcp().padTo(60), 1);
    expect(sent.packet).toHaveLength(80);
    expect(parse(sent.packet)[1]?.fields.totalLength).toBe('60');
  });

  it('drops what it was not meant to get', () => {
    expect(lb.encap(packet().ipv6().tcp(), 1)).toDrop();
    expect(lb.encap(inner(), 9)).toDrop();
    for (const cut of truncations(inner())) if (cut.length < 34) expect(lb.encap(cut, 1)).toDrop();
  });
});

describe('tooBig', () => {
  const told = { meta: { fits: 1_480 } };
  const large = (fields: Parameters<Packet['ipv4']>[0] = {}) =>
    packet()
      .ethernet({ src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' })
      .ipv4({ dontFragment: true, ...fields })
      .tcp()
      .payload(1460);

  it('answers the sender with the size that fits', () => {
    const answer = simulate(tooBig, large(), told);
    expect(answer).toTx();
    expect(answer).toHaveValidChecksums();
    const [ethernet, network, message] = parse(answer.packet);
    expect(ethernet?.fields).toMatchObject({ src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' });
    expect(network?.fields).toMatchObject({ saddr: '198.51.100.1', daddr: '192.0.2.1', protocol: '1', totalLength: '96' });
    expect(message?.kind).toBe('icmp');
    const view = new DataView(answer.packet.buffer, answer.packet.byteOffset);
    expect([view.getUint8(34), view.getUint8(35), view.getUint16(38), view.getUint16(40)]).toEqual([3, 4, 0, 1480]);
    // quoted as it came
    expect(answer.packet.subarray(42)).toEqual(large().bytes().subarray(14, 82));
  });

  it('quotes a header with options whole', () => {
    const frame = large({ options: new Uint8Array(40).fill(1) });
    const answer = simulate(tooBig, frame, told);
    expect(answer).toHaveValidChecksums();
    expect(answer.packet.subarray(42)).toEqual(frame.bytes().subarray(14, 82));
  });

  it('drops what may be fragmented, which nothing here does', () => {
    expect(simulate(tooBig, large({ dontFragment: false }), told)).toDrop();
  });

  it('answers nobody who cannot be answered', () => {
    for (const saddr of ['0.0.0.0', '224.0.0.1', '255.255.255.255']) expect(simulate(tooBig, large({ saddr }), told)).toDrop();
  });

  it('drops what is cut short', () => {
    for (const cut of truncations(large())) if (cut.length < 34) expect(simulate(tooBig, cut, told)).toDrop();
  });
});
