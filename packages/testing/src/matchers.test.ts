import { expect, test } from 'vitest';
import './matchers.ts';
import { packet } from './packet.ts';

const failure = (attempt: () => void): string => {
  try {
    attempt();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return 'no failure';
};

test('verdicts of results, test runs and return values', () => {
  expect({ verdict: 'pass' }).toPass();
  expect({ returnValue: 1, packet: new Uint8Array(14), durationNs: 0 }).toDrop();
  expect(3).toTx();
  expect(4).toRedirect();
  expect({ verdict: 'redirect', redirect: { ifindex: 3 } }).toRedirect(3);
  expect(0).toAbort();
  expect({ verdict: 'next' }).toNext();
  expect({ verdict: 'exit', exit: 'late' }).toExit('late');
  expect({ verdict: 'exit', exit: 'late' }).not.toExit('early');
  expect({ verdict: 'next' }).not.toPass();
});

test('verdicts of TC, which numbers them otherwise', () => {
  const ran = (returnValue: number): object => ({ returnValue, packet: new Uint8Array(14), durationNs: 0, skb: {} });
  expect(ran(0xffff_ffff)).toPass();
  expect(ran(2)).toDrop();
  expect(ran(7)).toRedirect();
  expect(0xffff_ffff).toPass();
  expect(failure(() => expect(ran(1)).toPass())).toMatchInlineSnapshot(
    `"got 1, expected what a stage gave: a result, a test run or a return value"`,
  );
  const peer = { verdict: 'redirect', redirect: { ifindex: 3, how: 'peer' } };
  expect(peer).toRedirect(3);
  expect(peer).toRedirect(3, 'peer');
  expect(failure(() => expect(peer).toRedirect(3, 'ingress'))).toMatchInlineSnapshot(
    `"expected redirect to interface 3 (ingress), got redirect to interface 3 (peer)"`,
  );
});

test('a wrong verdict shows the packet', () => {
  expect(failure(() => expect({ verdict: 'exit', exit: 'late', packet: packet().ipv4().udp().bytes() }).toDrop())).toMatchInlineSnapshot(`
    "expected drop, got exit 'late'

    the packet after the stage:
    ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
    ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=28 id=0 fragmentOffset=0 ttl=64 protocol=17 checksum=0x8e9b (valid) saddr=192.0.2.1 daddr=198.51.100.1
    udp 8 bytes: sport=40000 dport=53 length=8 checksum=0x7732 (valid)"
  `);
  expect(failure(() => expect({ verdict: 'redirect', redirect: { ifindex: 3 } }).toRedirect(4))).toMatchInlineSnapshot(
    `"expected redirect to interface 4, got redirect to interface 3"`,
  );
  expect(failure(() => expect(2).not.toPass())).toMatchInlineSnapshot(`"expected any outcome but pass"`);
  expect(failure(() => expect('pass').not.toPass())).toMatchInlineSnapshot(
    `"got pass, expected what a stage gave: a result, a test run or a return value"`,
  );
  expect(failure(() => expect({ returnValue: 9 }).not.toPass())).toMatchInlineSnapshot(
    `"got 9, expected what a stage gave: a result, a test run or a return value"`,
  );
  expect(failure(() => expect({}).toEqualPacket(packet()))).toMatchInlineSnapshot(
    `"got another object, expected a packet or a result with one"`,
  );
});

test('packets are compared by byte and explained by field', () => {
  const built = packet().ipv4({ ttl: 64 }).ipv4().tcp({ sport: 5 }).payload(100);
  expect(built.bytes()).toEqualPacket(built);
  expect({ packet: built.bytes() }).toEqualPacket(built);
  const other = packet().ipv4({ ttl: 63, checksum: 0 }).ipv4({ tos: 4 }).tcp({ sport: 5 }).payload(100);
  expect(other).not.toEqualPacket(built);
  expect(failure(() => expect(other).toEqualPacket(built))).toMatchInlineSnapshot(`
    "packets differ:
      ipv4.ttl: expected 64, got 63
      ipv4.checksum: expected 0x8e24 (valid), got 0x0000 (invalid)
      ipv4[2].tos: expected 0x00, got 0x04
      ipv4[2].checksum: expected 0x8e36 (valid), got 0x8e32 (valid)

    expected:
    ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
    ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=160 id=0 fragmentOffset=0 ttl=64 protocol=4 checksum=0x8e24 (valid) saddr=192.0.2.1 daddr=198.51.100.1
    ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=140 id=0 fragmentOffset=0 ttl=64 protocol=6 checksum=0x8e36 (valid) saddr=192.0.2.1 daddr=198.51.100.1
    tcp 20 bytes: sport=5 dport=80 seq=1 ackSeq=0 dataOffset=5 reserved=0x0 ack window=65535 checksum=0x2717 (valid) urgentPointer=0
    payload 100 bytes: bytes=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f… (100 bytes)

    got:
    ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
    ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=160 id=0 fragmentOffset=0 ttl=63 protocol=4 checksum=0x0000 (invalid) saddr=192.0.2.1 daddr=198.51.100.1
    ipv4 20 bytes: version=4 ihl=5 tos=0x04 totalLength=140 id=0 fragmentOffset=0 ttl=64 protocol=6 checksum=0x8e32 (valid) saddr=192.0.2.1 daddr=198.51.100.1
    tcp 20 bytes: sport=5 dport=80 seq=1 ackSeq=0 dataOffset=5 reserved=0x0 ack window=65535 checksum=0x2717 (valid) urgentPointer=0
    payload 100 bytes: bytes=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f… (100 bytes)"
  `);
});

test('differences behind what a description shows are given by byte', () => {
  const bytes = packet().ipv4().udp({ checksum: 0 }).payload(100).bytes();
  const changed = Uint8Array.from(bytes);
  changed[100] = 0;
  expect(failure(() => expect(changed).toEqualPacket(bytes))).toContain('byte 100: expected 0x3a, got 0x00');
  expect(failure(() => expect(bytes.subarray(0, 60)).toEqualPacket(bytes))).toContain('payload length: expected 100 bytes, got 18 bytes');
  expect(failure(() => expect(packet().ipv4().udp()).toEqualPacket(packet().ipv4().tcp()))).toContain(
    'layers: expected ethernet > ipv4 > tcp, got ethernet > ipv4 > udp',
  );
});

test('checksums', () => {
  expect(packet().ipv4().udp()).toHaveValidChecksums();
  expect(packet().ipv4().udp({ checksum: 1 })).not.toHaveValidChecksums();
  expect(packet().payload(4)).not.toHaveValidChecksums();
  expect(failure(() => expect(packet().ipv4({ checksum: 7 }).udp()).toHaveValidChecksums())).toMatchInlineSnapshot(`
    "invalid checksum of ipv4
    ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x0800
    ipv4 20 bytes: version=4 ihl=5 tos=0x00 totalLength=28 id=0 fragmentOffset=0 ttl=64 protocol=17 checksum=0x0007 (invalid) saddr=192.0.2.1 daddr=198.51.100.1
    udp 8 bytes: sport=40000 dport=53 length=8 checksum=0x7732 (valid)"
  `);
  expect(failure(() => expect(packet().payload(4)).toHaveValidChecksums())).toMatchInlineSnapshot(`
    "the packet has no checksum that can be judged
    ethernet 14 bytes: dst=02:00:00:00:00:02 src=02:00:00:00:00:01 etherType=0x88b5
    payload 4 bytes: bytes=00010203"
  `);
});
