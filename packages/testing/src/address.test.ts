import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatBytes, ipv4Bytes, ipv4Number, ipv6Bytes, macBytes } from './address.ts';

test('addresses survive their text', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      expect(ipv6Bytes(formatBytes(bytes))).toEqual(bytes);
      expect(ipv4Bytes(formatBytes(bytes.slice(0, 4)))).toEqual(bytes.slice(0, 4));
      expect(macBytes(formatBytes(bytes.slice(0, 6)))).toEqual(bytes.slice(0, 6));
    }),
    { numRuns: 100 },
  );
});

test('numbers are in host order, bytes in network order', () => {
  expect(ipv4Number('192.0.2.1')).toBe(0xc0000201);
  expect(ipv4Bytes(0xc0000201)).toEqual(Uint8Array.of(192, 0, 2, 1));
  expect(ipv6Bytes({ hi: 0x20010db8n << 32n, lo: 1n })).toEqual(ipv6Bytes('2001:db8::1'));
  expect(macBytes(0x020000000001)).toEqual(macBytes('02:00:00:00:00:01'));
});

test('what is no address is refused', () => {
  expect(() => ipv4Bytes('1.2.3')).toThrow("ip: '1.2.3' is no IPv4 address");
  expect(() => ipv4Bytes(2 ** 32)).toThrow('IPv4 address 4294967296, expected 4 bytes');
  expect(() => ipv6Bytes(new Uint8Array(4))).toThrow('an IPv6 address of 4 bytes, expected 16');
  expect(() => macBytes('02:00')).toThrow("macAddress: '02:00' is no MAC address");
  expect(() => formatBytes(new Uint8Array(5))).toThrow('an address of 5 bytes, expected 4, 6 or 16');
});
