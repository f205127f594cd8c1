import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { describe as describePacket, parse } from './description.ts';
import { packetDifferences } from './difference.ts';
import { fragments, truncations } from './mutation.ts';
import { type Packet, packet } from './packet.ts';

const hex = (frame: Packet): string => Buffer.from(frame.bytes()).toString('hex');

test('the defaults make a valid TCP frame', () => {
  expect(hex(packet().ipv4().tcp())).toMatchInlineSnapshot(
    `"0200000000020200000000010800450000280000000040068e9ac0000201c63364019c40005000000001000000005010ffff270d0000"`,
  );
  expect(describePacket(packet().ipv4().tcp())).toMatchInlineSnapshot(`
    "ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
    ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=40 id=0 fragmentOffset=0 ttl=64 protocol=6 checksum=0x8e9a (valid) saddr=192.0.2.1 daddr=198.51.100.1
    tcp 20 bytes: sport=40000 dport=80 seq=1 ackSeq=0 dataOffset=5 reserved=0x0 ack window=65535 checksum=0x270d (valid) urgentPointer=0"
  `);
});

test('headers nest, and each names what follows', () => {
  const tunnelled = packet()
    .ethernet({ dst: '02:00:00:00:00:aa' })
    .ipv4({ daddr: '10.0.0.7' })
    .ipv4({ ttl: 3 })
    .udp({ dport: 4433 })
    .payload('ping');
  expect(describePacket(tunnelled)).toMatchInlineSnapshot(`
    "ethernet 14 bytes: dst=02:00:00:00:00:aa src=02:00:00:00:00:01 etherType=0x0800
    ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=52 id=0 fragmentOffset=0 ttl=64 protocol=4 checksum=0xaebe (valid) saddr=192.0.2.1 daddr=10.0.0.7
    ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=32 id=0 fragmentOffset=0 ttl=3 protocol=17 checksum=0xcb97 (valid) saddr=192.0.2.1 daddr=198.51.100.1
    udp 8 bytes: sport=40000 dport=4433 length=12 checksum=0x873d (valid)
    payload 4 bytes: bytes=70696e67"
  `);
  expect(parse(packet().ipv6().icmpv6()).map((layer) => `${layer.kind} ${layer.checksum}`)).toEqual([
    'ethernet none',
    'ipv6 none',
    'icmpv6 valid',
  ]);
  expect(parse(packet().ipv4().ipv6().tcp()).map((layer) => layer.kind)).toEqual(['ethernet', 'ipv4', 'ipv6', 'tcp']);
  expect(parse(packet().payload(3)).map((layer) => layer.fields)).toMatchObject([{ etherType: '0x88b5' }, { bytes: '000102' }]);
});

test('options lengthen a header, and every field can be wrong', () => {
  const options = packet()
    .ipv4({ options: Uint8Array.of(1, 1, 1) })
    .tcp({ options: Uint8Array.of(2, 4, 5, 0xb4), syn: true });
  expect(parse(options)).toMatchObject([
    {},
    { length: 24, fields: { ihl: '6', options: '01010100' } },
    { length: 24, fields: { options: '020405b4', syn: 'true', ack: 'false' } },
  ]);
  const bad = packet().ipv4({ totalLength: 9, ihl: 15, checksum: 1, version: 5 }).udp({ length: 3, checksum: 2 });
  expect(describePacket(bad)).toMatchInlineSnapshot(`
    "ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
    ipv4 28 bytes: version=5 ihl=15 tos=0x00 totalLength=9 id=0 fragmentOffset=0 ttl=64 protocol=17 checksum=0x0001 (invalid) saddr=192.0.2.1 daddr=198.51.100.1 options=9c40003500030002 [version is not 4] [options end 32 bytes behind the packet] [totalLength below the header]
    payload 0 bytes: bytes= [0 of 8 bytes of udp]"
  `);
});

test('padding is counted by no header', () => {
  const padded = packet().ipv4().udp().padTo(60);
  expect(padded.bytes()).toHaveLength(60);
  expect(parse(padded).map((layer) => `${layer.kind} ${layer.length} ${layer.checksum}`)).toEqual([
    'ethernet 14 none',
    'ipv4 20 valid',
    'udp 8 valid',
    'padding 18 none',
  ]);
});

test('a computed UDP checksum of zero is sent as all ones', () => {
  const sum = packet().ipv4().udp().payload(Uint8Array.of(0, 0)).bytes().subarray(40, 42);
  const complement = packet().ipv4().udp().payload(sum);
  expect(parse(complement)[2]).toMatchObject({ checksum: 'valid', fields: { checksum: '0xffff' } });
});

test('a builder is immutable', () => {
  const base = packet().ipv4();
  const first = hex(base.tcp());
  base.udp();
  expect(hex(base.tcp())).toBe(first);
});

test('values that do not fit are refused by name', () => {
  expect(() => packet().ipv4({ ttl: 256 }).bytes()).toThrow("field 'ttl' is 256, expected 0..255");
  expect(() => packet().ipv4({ fragmentOffset: 65536 }).bytes()).toThrow(
    "field 'fragmentOffset' is 65536, expected 0..65528 in steps of 8",
  );
  expect(() => packet().tcp().bytes()).toThrow('tcp needs an ipv4 or ipv6 header in front of it');
  expect(() => packet().ethernet({ dst: '02:00' }).bytes()).toThrow("'02:00' is no MAC address");
});

test('truncations are all proper prefixes', () => {
  const bytes = packet().ipv4().udp().bytes();
  const cut = [...truncations(bytes)];
  expect(cut.map((prefix) => prefix.length)).toEqual(bytes.keys().toArray());
  expect(cut.at(-1)).toEqual(bytes.slice(0, -1));
  expect([...truncations(bytes, 14)][0]).toHaveLength(14);
});

test('fragments carry the datagram between them', () => {
  const whole = packet()
    .ipv4({ id: 7, options: Uint8Array.of(1) })
    .udp()
    .payload(100);
  const cut = fragments(whole, 40);
  expect(cut.map((part) => parse(part)[1])).toMatchObject([
    { checksum: 'valid', problems: [], fields: { id: '7', fragmentOffset: '0', moreFragments: 'true', totalLength: '64' } },
    { checksum: 'valid', problems: [], fields: { id: '7', fragmentOffset: '40', moreFragments: 'true', totalLength: '64' } },
    { checksum: 'valid', problems: [], fields: { id: '7', fragmentOffset: '80', moreFragments: 'false', totalLength: '52' } },
  ]);
  expect(Buffer.concat(cut.map((part) => part.subarray(38)))).toEqual(Buffer.from(whole.bytes().subarray(38)));
  expect(parse(cut[0] ?? new Uint8Array())[2]).toMatchObject({ kind: 'udp', checksum: 'none' });
  expect(parse(cut[1] ?? new Uint8Array())[2]).toMatchObject({ kind: 'payload' });
  expect(() => fragments(packet().arp(), 40)).toThrow('frame is not IP');
  expect(() => fragments(whole, 12)).toThrow('fragments of 12 bytes, expected a multiple of 8');
});

test('IPv6 is cut behind the headers that every router looks at', () => {
  const whole = packet().vlan().ipv6().hopByHop().routing().destination().udp().payload(100);
  const cut = fragments(whole, 64, 9);
  expect(cut.map((part) => parse(part).map(({ kind, length }) => `${kind} ${length}`))).toEqual([
    ['ethernet 14', 'vlan 4', 'ipv6 40', 'hopByHop 8', 'routing 8', 'fragment 8', 'destination 8', 'udp 8', 'payload 48'],
    ['ethernet 14', 'vlan 4', 'ipv6 40', 'hopByHop 8', 'routing 8', 'fragment 8', 'payload 52'],
  ]);
  expect(cut.map((part) => parse(part)[5]?.fields)).toMatchObject([
    { id: '9', nextHeader: '60', fragmentOffset: '0', moreFragments: 'true' },
    { id: '9', nextHeader: '60', fragmentOffset: '64', moreFragments: 'false' },
  ]);
  expect(cut.flatMap((part) => parse(part).flatMap(({ problems }) => problems))).toEqual([]);
  const carried = cut.map((part) => part.subarray(14 + 4 + 40 + 8 + 8 + 8));
  expect(Buffer.concat(carried)).toEqual(Buffer.from(whole.bytes().subarray(14 + 4 + 40 + 8 + 8)));
  const plain = fragments(packet().ipv6().udp().payload(20), 16);
  expect(plain.map((part) => parse(part).map(({ kind }) => kind))).toEqual([
    ['ethernet', 'ipv6', 'fragment', 'udp', 'payload'],
    ['ethernet', 'ipv6', 'fragment', 'payload'],
  ]);
});

describe('headers of real wires', () => {
  test('VLAN tags, announced by what is in front', () => {
    expect(
      describePacket(packet().vlan({ id: 100, priority: 5, tpid: 0x88a8 }).vlan({ id: 7, dropEligible: true }).arp()),
    ).toMatchInlineSnapshot(`
      "ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x88a8
      vlan 4 bytes: priority=5 id=100 etherType=0x8100
      vlan 4 bytes: priority=0 dropEligible id=7 etherType=0x0806
      arp 28 bytes: hardwareType=1 protocolType=0x0800 hardwareLength=6 protocolLength=4 operation=1 senderMac=02:00:00:00:00:01 senderIp=192.0.2.1 targetMac=00:00:00:00:00:00 targetIp=192.0.2.2"
    `);
    expect(hex(packet().vlan({ id: 0xabc, priority: 7, dropEligible: true }).ipv4()).slice(24, 36)).toBe('8100fabc0800');
  });

  test('IPv6 extension headers, padded to 8 bytes', () => {
    const options = Uint8Array.of(5, 2, 0, 0);
    expect(
      describePacket(packet().ipv6().hopByHop({ options }).destination().routing({ data: options }).fragment({ id: 77 }).udp()),
    ).toMatchInlineSnapshot(`
      "ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x86dd
      ipv6 40 bytes: version=6 trafficClass=0x00 flowLabel=0x00000 payloadLength=40 nextHeader=0 hopLimit=64 saddr=2001:db8::1 daddr=2001:db8::2
      hopByHop 8 bytes: nextHeader=60 extensionLength=0 options=050200000100
      destination 8 bytes: nextHeader=43 extensionLength=0 options=010400000000
      routing 8 bytes: nextHeader=44 extensionLength=0 type=4 segmentsLeft=0 data=05020000
      fragment 8 bytes: nextHeader=17 reserved=0x00 fragmentOffset=0 reservedBits=0 id=77
      udp 8 bytes: sport=40000 dport=53 length=8 checksum=0x07f4 (valid)"
    `);
    const bad = packet().ipv6().hopByHop({ extensionLength: 3, nextHeader: 6 }).payload(2);
    expect(parse(bad)[2]).toMatchObject({ problems: ['extensionLength ends 22 bytes behind the packet'], fields: { nextHeader: '6' } });
    expect(parse(packet().ipv6().destination()).map(({ fields }) => fields.nextHeader)).toEqual([undefined, '60', '59']);
  });

  test('GRE with every word, or with none', () => {
    const inner = packet().ipv4().gre({ key: 0xcafe, sequence: 3, checksum: true }).ipv6().udp();
    expect(describePacket(inner)).toMatchInlineSnapshot(`
      "ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
      ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=84 id=0 fragmentOffset=0 ttl=64 protocol=47 checksum=0x8e45 (valid) saddr=192.0.2.1 daddr=198.51.100.1
      gre 16 bytes: hasChecksum reservedBit=0 hasKey hasSequence reserved=0 version=0 protocol=0x86dd checksum=0x8cf0 (valid) reserved1=0 key=51966 sequence=3
      ipv6 40 bytes: version=6 trafficClass=0x00 flowLabel=0x00000 payloadLength=8 nextHeader=17 hopLimit=64 saddr=2001:db8::1 daddr=2001:db8::2
      udp 8 bytes: sport=40000 dport=53 length=8 checksum=0x07f4 (valid)"
    `);
    expect(hex(packet().ipv4().gre().ethernet().arp()).slice(68, 76)).toBe('00006558');
    expect(parse(packet().ipv4().gre({ checksum: 5 }).ipv4().tcp())[2]).toMatchObject({ length: 8, checksum: 'invalid' });
    expect(parse(packet().ipv4().gre({ version: 1 }).payload(8)).map(({ kind }) => kind)).toEqual(['ethernet', 'ipv4', 'gre', 'payload']);
  });

  test('VXLAN and GUE, with the ports that stand for them', () => {
    expect(describePacket(packet().ipv4().udp().vxlan({ vni: 0xabcdef }).ethernet().ipv4().tcp())).toMatchInlineSnapshot(`
      "ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
      ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=90 id=0 fragmentOffset=0 ttl=64 protocol=17 checksum=0x8e5d (valid) saddr=192.0.2.1 daddr=198.51.100.1
      udp 8 bytes: sport=40000 dport=4789 length=70 checksum=0xa1b5 (valid)
      vxlan 8 bytes: reservedFlags=0 hasVni reserved=0x0000000 vni=11259375 reserved1=0
      ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
      ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=40 id=0 fragmentOffset=0 ttl=64 protocol=6 checksum=0x8e9a (valid) saddr=192.0.2.1 daddr=198.51.100.1
      tcp 20 bytes: sport=40000 dport=80 seq=1 ackSeq=0 dataOffset=5 reserved=0x0 ack window=65535 checksum=0x270d (valid) urgentPointer=0"
    `);
    expect(
      describePacket(
        packet()
          .ipv6()
          .udp()
          .gue({ options: Uint8Array.of(1) })
          .ipv4()
          .udp(),
      ),
    ).toMatchInlineSnapshot(`
      "ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x86dd
      ipv6 40 bytes: version=6 trafficClass=0x00 flowLabel=0x00000 payloadLength=44 nextHeader=17 hopLimit=64 saddr=2001:db8::1 daddr=2001:db8::2
      udp 8 bytes: sport=40000 dport=6080 length=44 checksum=0xda6c (valid)
      gue 8 bytes: version=0 optionsLength=4 protocol=4 flags=0x0000 options=01000000
      ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=28 id=0 fragmentOffset=0 ttl=64 protocol=17 checksum=0x8e9b (valid) saddr=192.0.2.1 daddr=198.51.100.1
      udp 8 bytes: sport=40000 dport=53 length=8 checksum=0x7732 (valid)"
    `);
    const variant1 = parse(packet().ipv4().udp({ dport: 6080 }).ipv6().tcp());
    expect(variant1.map(({ kind }) => kind)).toEqual(['ethernet', 'ipv4', 'udp', 'ipv6', 'tcp']);
    expect(parse(packet().ipv6().udp({ checksum: 0 }).vxlan().ethernet())[2]?.checksum).toBe('none');
    expect(parse(packet().ipv6().udp({ checksum: 0 }))[2]?.checksum).toBe('invalid');
  });

  test('ICMP errors bring back the start of a packet, which is judged by what is there', () => {
    const lost = packet().vlan().ipv4({ ttl: 1 }).udp().payload(100);
    expect(describePacket(packet().ipv4().icmp({ type: 3, code: 4, mtu: 1400 }).quote(lost, 28))).toMatchInlineSnapshot(`
      "ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
      ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=56 id=0 fragmentOffset=0 ttl=64 protocol=1 checksum=0x8e8f (valid) saddr=192.0.2.1 daddr=198.51.100.1
      icmp 8 bytes: type=3 code=4 checksum=0x8005 (valid) unused=0 mtu=1400
      ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=128 id=0 fragmentOffset=0 ttl=1 protocol=17 checksum=0xcd37 (valid) saddr=192.0.2.1 daddr=198.51.100.1
      udp 8 bytes: sport=40000 dport=53 length=108 checksum=0xda9c"
    `);
    const six = packet().ipv6().icmpv6({ type: 2, mtu: 1280 }).quote(packet().ipv6().tcp());
    expect(parse(six).map(({ kind, checksum, problems }) => [kind, checksum, ...problems])).toEqual([
      ['ethernet', 'none'],
      ['ipv6', 'none'],
      ['icmpv6', 'valid'],
      ['ipv6', 'none'],
      ['tcp', 'valid'],
    ]);
    expect(parse(six)[2]?.fields.mtu).toBe('1280');
    expect(parse(packet().ipv4().icmp({ type: 5, rest: 0x0a000001 }).ipv4().tcp())[2]?.fields.rest).toBe('0x0a000001');
    const short = parse(packet().ipv4().icmp({ type: 11 }).quote(lost, 22));
    expect(short.map(({ kind, problems }) => [kind, ...problems])).toEqual([['ethernet'], ['ipv4'], ['icmp'], ['ipv4'], ['payload']]);
    expect(() => packet().ipv4().icmp({ rest: -1 }).bytes()).toThrow("field 'rest' is -1, expected 0..4294967295");
  });

  test('tunnels nest, and differences name the layer', () => {
    const tunnelled = packet().ipv6().ipv6().ipv4().udp();
    expect(parse(tunnelled).map(({ kind }) => kind)).toEqual(['ethernet', 'ipv6', 'ipv6', 'ipv4', 'udp']);
    expect(() => packet().ipv4().udp().vxlan().ethernet().tcp().bytes()).toThrow('tcp needs an ipv4 or ipv6 header in front of it');
    const overlay = (id: number, key: number) => packet().vlan({ id: 2 }).vlan({ id }).ipv4().gre({ key }).ipv4().icmp();
    expect(packetDifferences(overlay(3, 1), overlay(4, 5))).toEqual([
      { place: 'vlan[2].id', expected: '3', actual: '4' },
      { place: 'gre.key', expected: '1', actual: '5' },
    ]);
  });
});

const port = fc.nat(0xffff);
const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength });

/** One layer: its kind, how it is put on, and fields that must read as they were given. */
interface Step {
  readonly kind: string;
  readonly add: (packet: Packet) => Packet;
  readonly fields: Readonly<Record<string, unknown>>;
}
type Method = Exclude<keyof Packet, 'payload' | 'padTo' | 'quote' | 'bytes'>;
function layer<F extends Readonly<Record<string, unknown>>>(
  kind: Method,
  fields: { [K in keyof F]: fc.Arbitrary<F[K]> },
  unseen: string[] = [],
) {
  return fc.record(fields).map(
    (given): Step => ({
      kind,
      add: (p) => p[kind](given as never),
      fields: Object.fromEntries(Object.entries(given).filter(([name]) => !unseen.includes(name))),
    }),
  );
}

const ipv4 = layer('ipv4', { ttl: fc.nat(255), id: port, saddr: fc.nat(0xffffffff), options: bytes(40) }, ['saddr', 'options']);
const ipv6 = layer('ipv6', { saddr: fc.uint8Array({ minLength: 16, maxLength: 16 }), hopLimit: fc.nat(255) }, ['saddr']);
const extension = fc.oneof(
  layer('hopByHop', { options: bytes(40) }, ['options']),
  layer('destination', { options: bytes(40) }, ['options']),
  layer('routing', { type: fc.nat(255), data: bytes(40) }, ['data']),
  layer('fragment', { id: fc.nat(0xffffffff) }),
);
const overIpv6 = fc.tuple(ipv6, fc.array(extension, { maxLength: 6 })).map(([first, more]) => [first, ...more]);
const network = fc.oneof(
  ipv4.map((one) => [one]),
  overIpv6,
);
const vlans = fc.array(layer('vlan', { id: fc.nat(4095), priority: fc.nat(7), dropEligible: fc.boolean() }), { maxLength: 2 });
const ethernet = layer('ethernet', {});
const gre = fc
  .record({ key: fc.nat(0xffffffff), sequence: fc.nat(0xffffffff), checksum: fc.boolean() }, { requiredKeys: [] })
  .map(({ checksum, ...fields }): Step => ({ kind: 'gre', add: (p) => p.gre({ ...fields, ...(checksum ? { checksum } : {}) }), fields }));
const udp = layer('udp', { sport: port });
/** What stands between an outer network header and an inner one. */
const tunnel = fc.oneof(
  fc.constant([]),
  gre.map((one) => [one]),
  fc.tuple(gre, ethernet, vlans).map(([a, b, c]) => [a, b, ...c]),
  fc.tuple(udp, layer('vxlan', { vni: fc.nat(0xffffff) }), ethernet, vlans).map(([a, b, c, d]) => [a, b, c, ...d]),
  fc.tuple(udp, layer('gue', { flags: port, options: bytes(100) }, ['flags', 'options'])),
);
const transport = fc.oneof(
  layer('tcp', { sport: port, seq: fc.nat(0xffffffff), urg: fc.boolean(), options: bytes(40) }, ['options']),
  layer('udp', { sport: port, dport: fc.nat(4000) }),
);
const built = fc
  .record({
    outer: fc.tuple(ethernet, vlans).map(([first, tags]) => [first, ...tags]),
    tunnels: fc.array(fc.tuple(network, tunnel), { maxLength: 2 }),
    network,
    transport,
    payload: bytes(100),
  })
  .map(({ outer, tunnels, network, transport, payload }) => {
    const steps: readonly Step[] = [...outer, ...tunnels.flat(2), ...network, transport];
    return { steps, frame: steps.reduce((p, step) => step.add(p), packet()).payload(payload), payload };
  });

test('whatever is built parses as it was built, without problems and with valid checksums', () => {
  fc.assert(
    fc.property(built, ({ steps, frame, payload }) => {
      const layers = parse(frame);
      expect(layers.map(({ kind }) => kind)).toEqual([...steps.map(({ kind }) => kind), ...(payload.length > 0 ? ['payload'] : [])]);
      expect(layers.flatMap(({ problems }) => problems)).toEqual([]);
      expect(layers.map(({ checksum }) => checksum)).not.toContain('invalid');
      expect(layers.some(({ checksum }) => checksum === 'valid')).toBe(true);
      for (const [index, { fields }] of steps.entries())
        for (const [name, value] of Object.entries(fields)) expect(layers[index]?.fields[name]).toBe(String(value));
    }),
    { numRuns: 300 },
  );
});

test('any bytes can be described', () => {
  fc.assert(
    fc.property(built, fc.nat(), fc.nat(255), ({ frame }, at, value) => {
      const whole = frame.bytes();
      whole[at % whole.length] = value;
      for (const cut of [whole, whole.subarray(0, at % whole.length)]) {
        expect(parse(cut).reduce((sum, { length }) => sum + length, 0)).toBe(cut.length);
      }
    }),
    { numRuns: 300 },
  );
});
