import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeFrom } from './codec.ts';
import { decoder } from './decoder.ts';
import { array, be16, be32, be64, bits, bool, i32, i64, mac, packed, type Schema, struct, u8, u16, u32, u64 } from './schema.ts';

const many = Object.fromEntries(
  [u8, u16, u32, i32, u64, i64, be16, be32, be64, mac, bool, u8, u32].map((schema, i) => [`field${i}`, schema]),
);

test.each<[string, Schema<unknown>]>([
  ['a number', be32],
  ['a bigint', u64],
  ['an array', array(struct({ a: u8, b: u32 }), 3)],
  ['a struct of one field', struct({ only: u16 })],
  ['a struct of more fields than have places of their own', struct(many)],
  ['structs and arrays within', struct({ at: u64, ends: struct({ from: be32, to: be32 }), list: array(u16, 4), last: bool })],
  ['views', struct({ tci: be16, rest: u16 }, { vid: bits('tci', 0, 12) })],
  ['no padding', packed({ kind: u8, at: u64, port: be16 })],
])('%s: as decodeFrom, at any offset', (_name, schema) => {
  const { layout } = schema;
  const decode = decoder(schema);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: layout.size + 8, maxLength: layout.size + 8 }), fc.nat(8), (bytes, offset) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      expect(decode(view, offset)).toStrictEqual(decodeFrom(layout, view, offset));
    }),
  );
});

test('a value that does not lie in the view is a RangeError', () => {
  const decode = decoder(struct({ a: u32, b: u64 }));
  expect(() => decode(new DataView(new ArrayBuffer(16)), 4)).toThrow(RangeError);
});
