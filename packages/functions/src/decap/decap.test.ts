import '@tailrace/testing/matchers';
import { fragments, type Packet, packet, parse, SimulatedMaps, simulate, simulatedHandle, truncations } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { type IpAddress, parseIp } from '../address.ts';
import { DecapController, decap, decapMaps, decapStage } from './index.ts';

function setUp(sources?: readonly IpAddress[], addresses: readonly string[] = ['10.0.1.1']) {
  const tables = decapMaps(4);
  const maps = new SimulatedMaps();
  const needs = {
    tunnels: simulatedHandle(maps, tables.tunnels),
    tunnels6: simulatedHandle(maps, tables.tunnels6),
    unpacked: simulatedHandle(maps, tables.unpacked),
  };
  const controller = new DecapController(needs, { addresses, sources, maxTunnels: 4 });
  const stage = decapStage.with({ ...tables, anySource: sources === undefined });
  return { controller, needs, unpack: (frame: Packet | Uint8Array) => simulate(stage, frame, { maps }) };
}

const inner = (fields: Parameters<Packet['ipv4']>[0] = {}) => packet().ipv4(fields).tcp({ syn: true }).payload('hello');
const outer = (fields: Parameters<Packet['ipv4']>[0] = {}, within: Parameters<Packet['ipv4']>[0] = {}) =>
  packet()
    .ipv4({ saddr: '10.0.0.1', daddr: '10.0.1.1', ...fields })
    .ipv4(within)
    .tcp({ syn: true })
    .payload('hello');

describe('decap', () => {
  it('takes the outer header off', () => {
    const { controller, unpack } = setUp();
    const result = unpack(outer());
    expect(result).toNext();
    expect(result).toEqualPacket(inner());
    expect(controller.unpacked).toEqual({ packets: 1n, bytes: 79n });
  });

  it('takes off a header with options, and keeps those of the inner one', () => {
    const { unpack } = setUp();
    for (let words = 1; words <= 10; words++) {
      const options = new Uint8Array(4 * words).fill(1);
      expect(unpack(outer({ options }))).toEqualPacket(inner());
      expect(unpack(outer({}, { options }))).toEqualPacket(inner({ options }));
    }
  });

  it('leaves alone what is not for us', () => {
    const { controller, unpack } = setUp();
    for (const frame of [inner(), inner({ daddr: '10.0.1.1' }), outer({ daddr: '10.0.1.2' }), packet().ipv6().tcp()]) {
      expect(unpack(frame)).toNext();
      expect(unpack(frame)).toEqualPacket(frame);
    }
    expect(controller.remove('10.0.1.1')).toBe(true);
    expect(controller.remove('10.0.1.1')).toBe(false);
    expect(unpack(outer())).toEqualPacket(outer());
  });

  it('listens to balancers that are named', () => {
    const { unpack } = setUp([parseIp('10.0.0.1')]);
    expect(unpack(outer())).toEqualPacket(inner());
    expect(unpack(outer({ saddr: '10.0.0.9' }))).toEqualPacket(outer({ saddr: '10.0.0.9' }));
  });

  it('carries marks of congestion in', () => {
    const { unpack } = setUp();
    for (const [outside, inside, after] of [
      [3, 1, 3],
      [3, 2, 3],
      [3, 3, 3],
      [2, 1, 1],
      [0, 2, 2],
      [1, 0, 0],
      [0xfc, 0x28, 0x28],
      [0xff, 0x2a, 0x2b],
    ]) {
      const result = unpack(outer({ tos: outside ?? 0 }, { tos: inside ?? 0 }));
      expect(result).toEqualPacket(inner({ tos: after ?? 0 }));
    }
    // RFC 6040, figure 4: congestion was met by a packet whose ends do not heed marks
    expect(unpack(outer({ tos: 3 }, { tos: 0 }))).toExit('malformed');
  });

  it('finds what is malformed', () => {
    const { unpack } = setUp();
    expect(unpack(outer({ totalLength: 66 }))).toExit('malformed');
    expect(unpack(outer({}, { totalLength: 46 }))).toExit('malformed');
    expect(unpack(outer({}, { version: 6 }))).toExit('malformed');
    expect(unpack(outer({}, { ihl: 4 }))).toExit('malformed');
    expect(unpack(packet().ipv4({ daddr: '10.0.1.1', protocol: 4 }).payload(19))).toExit('malformed');
    expect(unpack(packet().ipv4({ daddr: '10.0.1.1', protocol: 4 }))).toExit('malformed');
    for (const fragment of fragments(outer(), 16)) expect(unpack(fragment)).toExit('fragment');
    for (const cut of truncations(outer())) {
      if (cut.length < 34) expect(unpack(cut)).toNext();
      else expect(unpack(cut)).toExit('malformed');
    }
  });

  it('takes Ethernet padding along', () => {
    const { unpack } = setUp();
    const result = unpack(outer().padTo(90));
    expect(result.packet).toHaveLength(70);
    expect(parse(result.packet)[1]?.fields.totalLength).toBe('45');
  });
});

const headers = {
  4: (p: Packet, tos = 0) => p.ipv4({ saddr: '10.0.0.1', daddr: '10.0.1.1', tos }),
  6: (p: Packet, tos = 0) => p.ipv6({ saddr: 'fd00::1', daddr: 'fd00:1::1', trafficClass: tos }),
} as const;
const within = {
  4: (p: Packet, tos = 0) => p.ipv4({ tos, ttl: 7 }).tcp({ syn: true }).payload('hello'),
  6: (p: Packet, tos = 0) => p.ipv6({ trafficClass: tos, flowLabel: 0xabcde, hopLimit: 7 }).tcp({ syn: true }).payload('hello'),
} as const;
const bytesOf = { 4: 20, 6: 40 } as const;

describe.each([
  [4, 4],
  [6, 4],
  [4, 6],
  [6, 6],
] as const)('IPv%i in IPv%i', (inside, outside) => {
  const both = ['10.0.1.1', 'fd00:1::1'];
  const wrapped = (outerTos = 0, innerTos = 0) => within[inside](headers[outside](packet(), outerTos), innerTos);
  const alone = (tos = 0) => within[inside](packet(), tos);

  it('is unpacked whole', () => {
    const { controller, unpack } = setUp(undefined, both);
    const result = unpack(wrapped());
    expect(result).toNext();
    expect(result).toEqualPacket(alone());
    expect(controller.unpacked).toEqual({ packets: 1n, bytes: BigInt(14 + bytesOf[outside] + bytesOf[inside] + 25) });
    controller.remove(outside === 4 ? '10.0.1.1' : 'FD00:1:0::1');
    expect(unpack(wrapped())).toEqualPacket(wrapped());
  });

  it('is unpacked from sources that are named', () => {
    const known = setUp([parseIp('10.0.0.1'), parseIp('fd00::1')], both);
    expect(known.unpack(wrapped())).toEqualPacket(alone());
    const others = setUp([parseIp('10.0.0.2'), parseIp('fd00::2')], both);
    expect(others.unpack(wrapped())).toEqualPacket(wrapped());
  });

  it('has marks of congestion carried in', () => {
    const { unpack } = setUp(undefined, both);
    for (const [outer, inner, after] of [
      [3, 1, 3],
      [3, 2, 3],
      [0xff, 0x2a, 0x2b],
      [0, 2, 2],
      [1, 0, 0],
      [0xfc, 0x28, 0x28],
    ]) {
      const result = unpack(wrapped(outer, inner));
      expect(result).toEqualPacket(alone(after));
      expect(result).toHaveValidChecksums();
    }
    expect(unpack(wrapped(3, 0))).toExit('malformed');
  });

  it('is malformed where lengths lie, or where it is the other family', () => {
    const { unpack } = setUp(undefined, both);
    for (const cut of truncations(wrapped())) {
      const readable = cut.length >= 14 + bytesOf[outside];
      if (readable) expect(unpack(cut)).toExit('malformed');
      else expect(unpack(cut)).toNext();
    }
    const lying = inside === 4 ? packet().ipv4({ totalLength: 21 }) : packet().ipv6({ payloadLength: 1 });
    const other = inside === 4 ? packet().ipv6() : packet().ipv4();
    for (const inner of [lying, other]) {
      const protocol = inside === 4 ? 4 : 41;
      const payload = inner.bytes().subarray(14);
      const frame =
        outside === 4
          ? packet().ipv4({ daddr: '10.0.1.1', protocol }).payload(payload)
          : packet().ipv6({ daddr: 'fd00:1::1', nextHeader: protocol }).payload(payload);
      expect(unpack(frame)).toExit('malformed');
    }
  });
});

describe('decap()', () => {
  it('checks its options', () => {
    expect(() => decap({ addresses: ['here'] })).toThrow("ip: 'here' is no IPv4 address");
    expect(() => decap({ sources: [] })).toThrow('decap: sources is empty');
    expect(() => decap({ maxTunnels: 0 })).toThrow('decap: maxTunnels is 0, expected 1..65536');
    expect(() => decap({ maxTunnels: 1, addresses: ['10.0.0.1', '10.0.0.2'] })).toThrow(
      '2 pairs of address and source, expected at most 1',
    );
    expect(() => decap({ addresses: ['fd00::1'], sources: ['10.0.0.1'] })).toThrow(
      'decap: no source can send to fd00::1, expected one of IPv6',
    );
    expect(decap({ addresses: ['10.0.0.1', 'fd00::1'], sources: ['10.0.0.2', 'fd00::2'] }).stages.xdp).toHaveLength(1);
  });

  it('takes addresses as long as there is room', () => {
    const { controller } = setUp();
    expect(controller.add('10.0.1.1')).toBe(false);
    for (const last of [2, 3, 4]) expect(controller.add(`10.0.1.${last}`)).toBe(true);
    expect(() => controller.add('10.0.1.5')).toThrow('5 pairs of address and source, expected at most 4');
    expect(controller.addresses).toHaveLength(4);
  });
});

it('becomes what it is told over what another process left', () => {
  const sources = ['10.0.0.1', '10.0.0.2', 'fd00::1'].map(parseIp);
  const { needs, unpack } = setUp(sources, ['10.0.1.1', 'fd00:1::1']);
  const [kept] = sources;
  const again = new DecapController(needs, { addresses: ['10.0.1.1', '10.0.1.2'], sources: kept && [kept], maxTunnels: 4 });
  expect(again.addresses).toEqual(['10.0.1.1', '10.0.1.2']);
  for (const daddr of ['10.0.1.1', '10.0.1.2']) {
    expect(unpack(outer({ daddr }))).toEqualPacket(inner());
    expect(unpack(outer({ daddr, saddr: '10.0.0.2' }))).toEqualPacket(outer({ daddr, saddr: '10.0.0.2' }));
  }
  expect([needs.tunnels.size, needs.tunnels6.size]).toEqual([2, 0]);
  // from anybody
  new DecapController(needs, { addresses: ['10.0.1.2'], maxTunnels: 4 });
  expect(needs.tunnels.getAll()).toEqual([[{ address: 0x0a00_0102, source: 0 }, true]]);
});
