import { isIPv4, isIPv6 } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatIp, formatIpv6, formatMac, ip, ipv6, macAddress } from './address.ts';

test('addresses come back', () => {
  expect(ip('203.0.113.0')).toBe(0xcb00_7100);
  expect(macAddress('02:00:00:00:aB:01')).toBe(0x0200_0000_ab01);
  fc.assert(fc.property(fc.ipV4(), (text) => formatIp(ip(text)) === text));
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), (address) => macAddress(formatMac(address)) === address));
  const half = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.constantFrom(0n, 1n, 0xffffn << 32n));
  fc.assert(
    fc.property(half, half, (hi, lo) => {
      const text = formatIpv6({ hi, lo });
      expect(new URL(`http://[${text}]`).hostname).toBe(`[${text}]`);
      expect(ipv6(text)).toEqual({ hi, lo });
    }),
  );
});

test.each([
  ['::', 0n, 0n, '::'],
  ['::1', 0n, 1n, '::1'],
  ['2001:DB8::', 0x2001_0db8n << 32n, 0n, '2001:db8::'],
  ['2001:db8:0:1:0:0:0:1', 0x2001_0db8_0000_0001n, 1n, '2001:db8:0:1::1'],
  ['::ffff:192.0.2.1', 0n, 0xffff_c000_0201n, '::ffff:c000:201'],
  ['1:2:3:4:5:6:7::', 0x0001_0002_0003_0004n, 0x0005_0006_0007_0000n, '1:2:3:4:5:6:7:0'],
])('%s', (text, hi, lo, canonical) => {
  expect(ipv6(text)).toEqual({ hi, lo });
  expect(formatIpv6({ hi, lo })).toBe(canonical);
});

test('text is taken exactly where node takes it', () => {
  const part = fc.constantFrom('0', '1', '255', '256', '01', 'ffff', '12345', 'g', '', '1.2.3.4', '1.2.3');
  const text = fc.tuple(fc.array(part, { maxLength: 9 }), fc.constantFrom('.', ':', '::')).map(([list, mark]) => list.join(mark));
  const mixed = fc.array(fc.constantFrom(':', '::', '1', 'ab', '0', '1.2.3.4'), { maxLength: 12 }).map((list) => list.join(''));
  fc.assert(
    fc.property(fc.oneof(text, mixed, fc.ipV6()), (candidate) => {
      expect(accepts(() => ip(candidate))).toBe(isIPv4(candidate));
      expect(accepts(() => ipv6(candidate))).toBe(isIPv6(candidate));
    }),
    { numRuns: 1000 },
  );
});

test.each<[() => unknown, string]>([
  [() => ip('1.2.3'), "ip: '1.2.3' is no IPv4 address, expected four numbers of 0..255"],
  [() => ipv6('1::2::3'), "ipv6: '1::2::3' is no IPv6 address, expected eight groups of hex digits, or '::' for some"],
  [() => macAddress('02-00'), "macAddress: '02-00' is no MAC address, expected six pairs of hex digits with colons"],
  [() => formatIp(-1), 'formatIp: -1, expected 0..4294967295'],
  [() => formatIpv6({ hi: -1n, lo: 0n }), 'formatIpv6: a half is -1n, expected 0n..18446744073709551615n'],
  [() => formatMac(2 ** 48), 'formatMac: 281474976710656, expected 0..281474976710655'],
])('refused: %s', (make, message) => expect(make).toThrow(expect.objectContaining({ code: 'argument', message })));

function accepts(parse: () => unknown): boolean {
  try {
    parse();
    return true;
  } catch {
    return false;
  }
}
