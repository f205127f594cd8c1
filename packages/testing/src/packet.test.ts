import fc from 'fast-check';
import { expect, test } from 'vitest';
import { describe as describePacket, parse } from './description.ts';
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
  expect(() => fragments(packet().ipv6().udp(), 40)).toThrow('frame is not IPv4');
});

const port = fc.nat(0xffff);
const frame: fc.Arbitrary<Packet> = fc
  .record({
    tunnel: fc.constantFrom<(outer: Packet) => Packet>(
      (p) => p,
      (p) => p.ipv4(),
      (p) => p.ipv6(),
    ),
    network: fc.oneof(
      fc
        .record({
          saddr: fc.nat(0xffffffff),
          daddr: fc.nat(0xffffffff),
          tos: fc.nat(255),
          id: port,
          options: fc.uint8Array({ maxLength: 40 }),
        })
        .map((f) => (p: Packet) => p.ipv4(f)),
      fc
        .record({ saddr: fc.uint8Array({ minLength: 16, maxLength: 16 }), flowLabel: fc.nat(0xfffff) })
        .map((f) => (p: Packet) => p.ipv6(f)),
    ),
    transport: fc.oneof(
      fc
        .record({ sport: port, dport: port, seq: fc.nat(0xffffffff), urg: fc.boolean(), options: fc.uint8Array({ maxLength: 40 }) })
        .map((f) => (p: Packet) => p.tcp(f)),
      fc.record({ sport: port, dport: port }).map((f) => (p: Packet) => p.udp(f)),
    ),
    payload: fc.uint8Array({ maxLength: 100 }),
  })
  .map(({ tunnel, network, transport, payload }) => transport(network(tunnel(packet()))).payload(payload));

test('whatever is built without overrides parses without problems and with valid checksums', () => {
  fc.assert(
    fc.property(frame, (built) => {
      const layers = parse(built);
      expect(layers.flatMap((layer) => layer.problems)).toEqual([]);
      expect(layers.map((layer) => layer.checksum)).not.toContain('invalid');
      expect(layers.some((layer) => layer.checksum === 'valid')).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test('any bytes can be described', () => {
  fc.assert(
    fc.property(frame, fc.nat(), fc.nat(255), (built, at, value) => {
      const bytes = built.bytes();
      bytes[at % bytes.length] = value;
      for (const cut of [bytes, bytes.subarray(0, at % bytes.length)]) {
        expect(parse(cut).reduce((sum, layer) => sum + layer.length, 0)).toBe(cut.length);
      }
    }),
    { numRuns: 200 },
  );
});
