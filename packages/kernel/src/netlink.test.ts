import fc from 'fast-check';
import { expect, test } from 'vitest';
import { attributeText, attributeU32, decodeAttributes, encodePayload, NetlinkError } from './netlink.ts';

test('attributes are padded to 4 bytes and nest', () => {
  const bytes = encodePayload(Uint8Array.of(1, 2, 3, 4), [
    [3, 'eth0'],
    [18, [[1, 'veth']]],
    [4, 1500],
  ]);
  expect(Buffer.from(bytes).toString('hex').match(/.{8}/g)).toEqual([
    '01020304',
    '09000300', // length 9, type 3
    '65746830', // eth0
    '00000000', // its NUL, padding
    '10001200', // length 16, type 18
    '09000100', // inside: length 9, type 1
    '76657468',
    '00000000',
    '08000400', // length 8, type 4
    'dc050000',
  ]);
  const attributes = decodeAttributes(bytes.subarray(4));
  expect(attributeText(attributes.get(3))).toBe('eth0');
  expect(attributeU32(attributes.get(4))).toBe(1500);
  expect(attributeText(decodeAttributes(attributes.get(18) ?? new Uint8Array()).get(1))).toBe('veth');
});

test('what is written is read back', () => {
  const entries = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), fc.uint8Array({ maxLength: 40 })), {
    selector: ([type]) => type,
  });
  fc.assert(
    fc.property(entries, (list) => {
      expect([...decodeAttributes(encodePayload(new Uint8Array(), list))]).toEqual(list);
    }),
  );
});

test('damaged attributes end the list, whatever they are', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void decodeAttributes(bytes)));
  expect(decodeAttributes(Uint8Array.of(0, 0, 1, 0)).size).toBe(0);
  expect(decodeAttributes(Uint8Array.of(9, 0, 1, 0, 5)).size).toBe(0);
});

test('an error says what was asked for and what the kernel says', () => {
  const error = new NetlinkError('add route to 1.2.3.4/32', 101, 'Nexthop has invalid gateway');
  expect(error.message).toMatchInlineSnapshot(
    `"add route to 1.2.3.4/32 failed: ENETUNREACH, network is unreachable (the kernel says: Nexthop has invalid gateway)"`,
  );
  expect(error).toMatchObject({ code: 'netlink', errno: 101, errnoName: 'ENETUNREACH' });
});
