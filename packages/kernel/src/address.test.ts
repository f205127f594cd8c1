import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAddress, formatMac, parseAddress, parseMac, parsePrefix } from './address.ts';

test('any address survives formatting and parsing', () => {
  const bytes = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }));
  fc.assert(
    fc.property(bytes, (value) => {
      expect(parseAddress(formatAddress(value)).bytes).toEqual(value);
    }),
  );
});

test('any MAC address survives formatting and parsing', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (mac) => {
      expect(parseMac(formatMac(mac))).toEqual(mac);
    }),
  );
});

test.each([
  ['10.0.0.1/24', 'ipv4', '0a000001', 24],
  ['255.255.255.255', 'ipv4', 'ffffffff', 32],
  ['fd00::1/64', 'ipv6', 'fd000000000000000000000000000001', 64],
  ['::', 'ipv6', '00000000000000000000000000000000', 128],
  ['::ffff:1.2.3.4', 'ipv6', '00000000000000000000ffff01020304', 128],
] as const)('%s', (text, family, hex, length) => {
  const prefix = parsePrefix(text);
  expect({ ...prefix, bytes: Buffer.from(prefix.bytes).toString('hex') }).toEqual({ family, bytes: hex, length });
});

test.each([
  ['10.0.0', '10.0.0 is no IP address or prefix'],
  ['', ' is no IP address or prefix'],
  ['10.0.0.1/33', 'the prefix length of 10.0.0.1/33 must be 0 to 32'],
  ['10.0.0.1/', 'the prefix length of 10.0.0.1/ must be 0 to 32'],
  ['10.0.0.1/2/3', '10.0.0.1/2/3 is no IP address or prefix'],
  ['fe80::1%eth0', 'fe80::1%eth0 is no IP address or prefix'],
])('%j is refused', (text, message) => {
  expect(() => parsePrefix(text)).toThrow(message);
});

test('a prefix is no address, and half a MAC is none', () => {
  expect(() => parseAddress('10.0.0.0/8')).toThrow('10.0.0.0/8 is a prefix, expected an address');
  expect(() => parseMac('02:00:00')).toThrow('02:00:00 is no MAC address');
});
