import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checksum, fold, partialSum, pseudoHeaderSum } from './checksum.ts';

test('the example of RFC 1071, section 3', () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  expect(fold(partialSum(bytes))).toBe(0xddf2);
  expect(checksum(bytes)).toBe(0x220d);
});

test('a header captured from the wire sums to zero', () => {
  const header = Uint8Array.from(Buffer.from('4500003c1c4640004006b1e6ac100a63ac100a0c', 'hex'));
  expect(checksum(header)).toBe(0);
});

test('bytes with their own checksum behind them sum to zero, at any even length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const even = Uint8Array.from([...bytes, ...(bytes.length % 2 === 0 ? [] : [0])]);
      const sum = checksum(bytes);
      expect(checksum(Uint8Array.from([...even, sum >> 8, sum & 255]))).toBe(0);
    }),
    { numRuns: 100 },
  );
});

test('the pseudo headers of IPv4 and IPv6 as laid out by their RFCs', () => {
  const v4 = Uint8Array.of(192, 0, 2, 1, 198, 51, 100, 1, 0, 17, 0x12, 0x34);
  expect(pseudoHeaderSum({ saddr: v4.slice(0, 4), daddr: v4.slice(4, 8), protocol: 17, length: 0x1234 })).toBe(partialSum(v4));
  const v6 = Uint8Array.from([...Array(32).keys(), 0, 1, 0x12, 0x34, 0, 0, 0, 58]);
  expect(pseudoHeaderSum({ saddr: v6.slice(0, 16), daddr: v6.slice(16, 32), protocol: 58, length: 0x11234 })).toBe(partialSum(v6));
});
