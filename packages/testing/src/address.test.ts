import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatIpv4, formatIpv6, formatMac, ipv4Bytes, ipv4Number, ipv6Bytes, macBytes } from './address.ts';

const ipv6Cases = [
  ['::', '::'],
  ['::1', '::1'],
  ['2001:db8::', '2001:db8::'],
  ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
  ['::ffff:192.0.2.1', '::ffff:c000:201'],
] as const;

test.each(ipv6Cases)('%s is written %s', (text, canonical) => {
  expect(formatIpv6(ipv6Bytes(text))).toBe(canonical);
});

test('addresses survive their text', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      expect(ipv6Bytes(formatIpv6(bytes))).toEqual(bytes);
      expect(ipv4Bytes(formatIpv4(bytes.slice(0, 4)))).toEqual(bytes.slice(0, 4));
      expect(macBytes(formatMac(bytes.slice(0, 6)))).toEqual(bytes.slice(0, 6));
    }),
    { numRuns: 100 },
  );
});

test('an IPv4 address as a number is in host order', () => {
  expect(ipv4Number('192.0.2.1')).toBe(0xc0000201);
  expect(formatIpv4(0xc0000201)).toBe('192.0.2.1');
  expect(ipv4Bytes(0xc0000201)).toEqual(Uint8Array.of(192, 0, 2, 1));
});

const refused = [
  ['1.2.3', ipv4Bytes],
  ['1.2.3.256', ipv4Bytes],
  ['1.2.3.4.5', ipv4Bytes],
  ['', ipv4Bytes],
  ['1::2::3', ipv6Bytes],
  ['1:2:3:4:5:6:7', ipv6Bytes],
  ['1:2:3:4:5:6:7:8:9', ipv6Bytes],
  ['g::', ipv6Bytes],
  ['fe80::1%eth0', ipv6Bytes],
  [':1', ipv6Bytes],
  ['1:2:3:4:5:6:7::8', ipv6Bytes],
  ['02:00:00:00:00', macBytes],
  ['02-00-00-00-00-01', macBytes],
] as const;

test.each(refused)('%s is refused', (text, read) => {
  expect(() => read(text)).toThrow(`'${text}' is not a valid`);
});
