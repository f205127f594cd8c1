import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decode, decodeFrom, encode, encodeInto } from './codec.ts';
import { Ethernet, Ipv4, Tcp } from './headers.ts';
import type { Layout } from './layout.ts';
import {
  array,
  be16,
  be32,
  be64,
  bool,
  i32,
  i64,
  ipv6Prefix,
  mac,
  nothing,
  packed,
  ref,
  type Schema,
  struct,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test.each<[string, Schema<unknown>, unknown, string]>([
  ['u8', u8, 0xab, 'ab'],
  ['u16', u16, 0x1234, '3412'],
  ['be16', be16, 0x1234, '1234'],
  ['u32', u32, 0xfedc_ba98, '98badcfe'],
  ['i32', i32, -2, 'feffffff'],
  ['be32', be32, 0xcb00_7101, 'cb007101'],
  ['mac', mac, 0x0200_0000_0001, '020000000001'],
  ['mac, highest', mac, 2 ** 48 - 1, 'ffffffffffff'],
  ['u64', u64, 0x0102_0304_0506_0708n, '0807060504030201'],
  ['i64', i64, -1n, 'ffffffffffffffff'],
  ['be64', be64, 2n ** 64n - 2n, 'fffffffffffffffe'],
  ['bool', bool, true, '01'],
  ['nothing', nothing, undefined, ''],
  ['padding', struct({ a: u8, b: u32, c: u8 }), { a: 1, b: 2, c: 3 }, '010000000200000003000000'],
  ['packed', packed({ a: u8, b: be32 }), { a: 1, b: 2 }, '0100000002'],
  ['array', array(be16, 3), [1, 2, 3], '000100020003'],
  ['IPv6 prefix', ipv6Prefix, { prefixLen: 64, addr: { hi: 0x2001_0db8n << 32n, lo: 1n } }, '4000000020010db8000000000000000000000001'],
])('bytes of %s', (_, schema, value, expected) => {
  expect(hex(encode(schema, value))).toBe(expected);
  expect(decode(schema, Buffer.from(expected, 'hex'))).toEqual(value);
});

/** Random schemas with a value each. */
const scalars: readonly fc.Arbitrary<readonly [Schema<unknown>, unknown]>[] = [
  fc.tuple(fc.constant(u8), fc.nat(0xff)),
  fc.tuple(fc.constantFrom(u16, be16), fc.nat(0xffff)),
  fc.tuple(fc.constantFrom(u32, be32), fc.integer({ min: 0, max: 0xffff_ffff })),
  fc.tuple(fc.constant(i32), fc.integer()),
  fc.tuple(fc.constant(mac), fc.integer({ min: 0, max: 2 ** 48 - 1 })),
  fc.tuple(fc.constantFrom(u64, be64), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  fc.tuple(fc.constant(i64), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  fc.tuple(fc.constant(bool), fc.boolean()),
];
const { anything } = fc.letrec<{ anything: readonly [Schema<unknown>, unknown] }>((tie) => ({
  anything: fc.oneof(
    { maxDepth: 3 },
    fc.oneof(...scalars),
    fc
      .tuple(
        fc.constantFrom(struct, packed),
        fc.uniqueArray(fc.stringMatching(/^[a-z]{1,3}$/), { minLength: 1, maxLength: 5 }),
        fc.array(tie('anything'), { minLength: 5, maxLength: 5 }),
      )
      .map(([make, names, parts]) => {
        const pick = (side: 0 | 1): Record<string, never> => Object.fromEntries(names.map((name, i) => [name, parts[i]?.[side] as never]));
        return [make(pick(0)), pick(1)] as const;
      }),
    fc
      .tuple(tie('anything'), fc.integer({ min: 1, max: 4 }))
      .filter(([[schema]]) => schema.layout.size % schema.layout.align === 0)
      .map(([[schema, value], length]) => [array(schema, length), Array.from({ length }, () => value)] as const),
  ),
}));

test('any value of any schema comes back, over any memory, and leaves the bytes beside it alone', () => {
  fc.assert(
    fc.property(anything, fc.nat(255), ([schema, value], dirt) => {
      const { size } = schema.layout;
      const memory = new Uint8Array(size + 16).fill(dirt);
      encodeInto(schema.layout, value, new DataView(memory.buffer), 8);
      expect(decodeFrom(schema.layout, new DataView(memory.buffer), 8)).toEqual(value);
      expect(hex(memory.subarray(8, 8 + size))).toBe(hex(encode(schema, value)));
      expect([...memory.subarray(0, 8), ...memory.subarray(8 + size)].every((byte) => byte === dirt)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test('views are read and not written', () => {
  const header = encode(Ipv4, {
    versionIhl: 0x46,
    tos: 0,
    totalLength: 24,
    id: 7,
    flagsFragment: 0x2003,
    ttl: 64,
    protocol: 6,
    checksum: 0,
    saddr: 1,
    daddr: 2,
  });
  expect(decode(Ipv4, header)).toMatchObject({
    version: 4,
    ihl: 6,
    headerLength: 24,
    fragmentOffset: 24,
    moreFragments: true,
    dontFragment: false,
  });
  const tcp = new Uint8Array(20);
  tcp.set([0x80, 0x12], 12);
  expect(decode(Tcp, tcp)).toMatchObject({ headerLength: 32, syn: true, ack: true, fin: false, rst: false, cwr: false });
});

test('decode takes what it needs of a longer buffer', () => {
  const frame = Buffer.concat([Buffer.alloc(3), encode(Ethernet, { dst: 1, src: 2, etherType: 0x0800 }), Buffer.alloc(9)]);
  expect(decode(Ethernet, frame.subarray(3))).toEqual({ dst: 1, src: 2, etherType: 0x0800 });
  expect(() => decode(Ethernet, frame.subarray(0, 13))).toThrow('decode: 13 bytes, expected at least 14');
});

describe('values that do not fit', () => {
  const key = struct({ addr: u32, ports: array(be16, 2), up: bool, n: u64 });
  const good = { addr: 1, ports: [1, 2], up: true, n: 1n };
  test.each<[string, unknown, string]>([
    ['negative', { ...good, addr: -1 }, 'key.addr: expected 0..4294967295, got -1'],
    ['fraction', { ...good, addr: 1.5 }, 'key.addr: expected 0..4294967295, got 1.5'],
    ['not a number', { ...good, addr: Number.NaN }, 'key.addr: expected 0..4294967295, got NaN'],
    ['bigint', { ...good, addr: 1n }, 'key.addr: expected 0..4294967295, got 1n'],
    ['missing', { ...good, addr: undefined }, 'key.addr: expected 0..4294967295, got undefined'],
    ['item', { ...good, ports: [1, 65_536] }, 'key.ports[1]: expected 0..65535, got 65536'],
    ['count', { ...good, ports: [1] }, 'key.ports: expected 2 items, got 1'],
    ['no list', { ...good, ports: 'ab' }, 'key.ports: expected 2 items, got "ab"'],
    ['boolean', { ...good, up: 1 }, 'key.up: expected a boolean, got 1'],
    ['number', { ...good, n: 1 }, 'key.n: expected 0n..18446744073709551615n, got 1'],
    ['scalar', 7, 'key: expected an object, got 7'],
    ['null', null, 'key: expected an object, got null'],
  ])('%s', (_, value, message) => {
    const view = new DataView(new ArrayBuffer(key.layout.size));
    expect(() => encodeInto(key.layout, value, view, 0, 'key')).toThrow(expect.objectContaining({ code: 'argument', message }));
  });
  test('encode calls it value', () => expect(() => encode(u8, 256)).toThrow('value: expected 0..255, got 256'));
  test('a ref has no bytes', () =>
    expect(() => encode(ref(u8), undefined)).toThrow('a ref lives in a program only, expected a schema with bytes'));
  test('an impossible integer', () => {
    const layout: Layout = { kind: 'int', size: 8, align: 8, signed: false, bigEndian: false, bigint: false };
    expect(() => encodeInto(layout, 1, new DataView(new ArrayBuffer(8)), 0)).toThrow('an integer of 8 bytes is a bigint');
  });
});
