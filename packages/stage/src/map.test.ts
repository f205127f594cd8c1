import { describe, expect, test } from 'vitest';
import { mapDifferences, schemaDifferences } from './binding.ts';
import { type AnyMap, arrayMap, hash, lpmTrie, lruHash, lruPerCpuHash, perCpuArray, perCpuHash, programArray } from './map.ts';
import { arrayOfMaps, hashOfMaps } from './map-of-maps.ts';
import { toMapSpec } from './map-spec.ts';
import { bloomFilter, queue, stack } from './queue.ts';
import { cpumap, devmap, devmapHash, xskmap } from './redirect-map.ts';
import {
  aligned,
  array,
  be32,
  bool,
  i32,
  ipv4Prefix,
  ipv6Prefix,
  mac,
  nothing,
  ref,
  type Schema,
  struct,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';
import { sockhash, sockmap } from './socket-map.ts';

const Conn = struct({ real: u32, packets: u64 });
const keyed = { name: 'm', key: be32, value: Conn, maxEntries: 8 };
const indexed = { name: 'm', value: Conn, maxEntries: 8 };

test.each<[AnyMap, string]>([
  [hash(keyed), 'hash 4 16 8 0 btf'],
  [lruHash(keyed), 'lruHash 4 16 8 0 btf'],
  [perCpuHash(keyed), 'perCpuHash 4 16 8 0 btf'],
  [lruPerCpuHash(keyed), 'lruPerCpuHash 4 16 8 0 btf'],
  [lpmTrie({ ...keyed, key: ipv4Prefix }), 'lpmTrie 8 16 8 1 btf'],
  [lpmTrie({ ...keyed, key: ipv6Prefix }), 'lpmTrie 20 16 8 1 btf'],
  [lpmTrie({ ...keyed, key: struct({ prefixLen: u32, bytes: array(u8, 256) }) }), 'lpmTrie 260 16 8 1 btf'],
  [arrayMap(indexed), 'array 4 16 8 0 btf'],
  [perCpuArray(indexed), 'perCpuArray 4 16 8 0 btf'],
  [devmap({ name: 'm', maxEntries: 8 }), 'devmap 4 4 8 0 '],
  [programArray({ name: 'm', maxEntries: 8 }), 'programArray 4 4 8 0 '],
  [hash({ ...keyed, noPrealloc: true }), 'hash 4 16 8 1 btf'],
  [perCpuHash({ ...keyed, noPrealloc: true }), 'perCpuHash 4 16 8 1 btf'],
  [devmapHash({ name: 'm', maxEntries: 8 }), 'devmapHash 4 4 8 0 '],
  [cpumap({ name: 'm', maxEntries: 8 }), 'cpumap 4 4 8 0 '],
  [xskmap({ name: 'm', maxEntries: 8 }), 'xskmap 4 4 8 0 '],
  [sockmap({ name: 'm', maxEntries: 8 }), 'sockmap 4 8 8 0 '],
  [sockhash({ name: 'm', key: Conn, maxEntries: 8 }), 'sockhash 16 8 8 0 '],
  [queue(indexed), 'queue 0 16 8 0 '],
  [stack(indexed), 'stack 0 16 8 0 '],
  [bloomFilter(indexed), 'bloomFilter 0 16 8 0 btf'],
  [arrayOfMaps({ name: 'm', maxEntries: 8, inner: hash(keyed) }), 'arrayOfMaps 4 4 8 0 '],
  [hashOfMaps({ name: 'm', key: u64, maxEntries: 8, inner: hash(keyed), noPrealloc: true }), 'hashOfMaps 8 4 8 1 '],
])('%s', (map, expected) => {
  const { name, type, keySize, valueSize, maxEntries, flags, btf } = toMapSpec(map, 'scope/m');
  expect(name).toBe('scope/m');
  expect(`${type} ${keySize} ${valueSize} ${maxEntries} ${flags} ${btf ? 'btf' : ''}`).toBe(expected);
  expect(Object.isFrozen(map)).toBe(true);
  expect(map.kind).toBe('map');
});

test('only global maps say so', () => {
  expect('global' in hash(keyed)).toBe(false);
  expect(hash({ ...keyed, global: true }).global).toBe(true);
});

test('BTF names the fields and describes every kind of layout', () => {
  const value = struct({ dst: mac, up: bool, delta: i32, in: struct({ port: u16 }), list: array(u8, 3) });
  const { btf } = toMapSpec(hash({ name: 'conns.a', key: ipv4Prefix, value, maxEntries: 1 }), 'x');
  const strings = Buffer.from(btf?.blob ?? [])
    .toString('latin1')
    .split('\0');
  expect(strings).toEqual(
    expect.arrayContaining(['conns_a_key', 'prefixLen', 'addr', '__be32', 'conns_a_value', 'dst', 'up', 'delta', 'port', 'list', '_Bool']),
  );
  expect(btf?.keyTypeId).not.toBe(btf?.valueTypeId);
});

describe('declarations that no kernel takes', () => {
  const prefix = (key: Schema<{ prefixLen: number }>) => () => lpmTrie({ ...keyed, key });
  test.each<[string, () => unknown, string]>([
    ['no name', () => hash({ ...keyed, name: '' }), "hash: name '', expected 1 to 64 letters, digits, '_', '.' or '-'"],
    ['a slash', () => hash({ ...keyed, name: 'a/b' }), "hash: name 'a/b', expected 1 to 64 letters, digits, '_', '.' or '-'"],
    ['no entries', () => arrayMap({ ...indexed, maxEntries: 0 }), "array 'm': maxEntries is 0, expected 1..4294967295"],
    ['too many', () => arrayMap({ ...indexed, maxEntries: 2 ** 32 }), "array 'm': maxEntries is 4294967296, expected 1..4294967295"],
    ['a fraction', () => devmap({ name: 'm', maxEntries: 1.5 }), "devmap 'm': maxEntries is 1.5, expected 1..4294967295"],
    [
      'value without bytes',
      () => arrayMap({ ...indexed, value: nothing }),
      "array 'm': the value is nothing, expected a schema with bytes",
    ],
    ['key without bytes', () => hash({ ...keyed, key: ref(u8) }), "hash 'm': the key is ref, expected a schema with bytes"],
    ['large key', () => hash({ ...keyed, key: array(u8, 513) }), "hash 'm': the key takes 513 bytes, expected at most 512"],
    [
      'large value',
      () => perCpuArray({ ...indexed, value: array(u8, 32_769) }),
      "perCpuArray 'm': the value takes 32769 bytes, expected at most 32768",
    ],
    ['no prefix', prefix(u32 as never), "lpmTrie 'm': the key must be a struct that starts with prefixLen: u32"],
    [
      'prefix of 64 bits',
      prefix(struct({ prefixLen: u64, a: be32 }) as never),
      "lpmTrie 'm': the key must be a struct that starts with prefixLen: u32",
    ],
    [
      'big-endian prefix',
      prefix(struct({ prefixLen: be32, a: be32 })),
      "lpmTrie 'm': the key must be a struct that starts with prefixLen: u32",
    ],
    ['nothing behind', prefix(struct({ prefixLen: u32 })), "lpmTrie 'm': the key must have 1 to 256 bytes directly behind prefixLen"],
    ['a gap', prefix(struct({ prefixLen: u32, a: u64 })), "lpmTrie 'm': the key must have 1 to 256 bytes directly behind prefixLen"],
    [
      'host order',
      prefix(struct({ prefixLen: u32, a: u32 })),
      "lpmTrie 'm': key.a is matched from its first byte, expected be16, be32, be64, mac or u8",
    ],
    [
      'host order inside',
      prefix(struct({ prefixLen: u32, a: struct({ b: aligned(u64, 4) }) })),
      "lpmTrie 'm': key.a is matched from its first byte, expected be16, be32, be64, mac or u8",
    ],
  ])('%s', (_, make, message) => expect(make).toThrow(expect.objectContaining({ code: 'argument', message })));
});

describe('differences between maps', () => {
  const base = hash(keyed);
  test.each<[string, AnyMap, string[], string[]]>([
    ['none', hash({ ...keyed, name: 'other' }), [], []],
    ['limits only', hash({ ...keyed, maxEntries: 9 }), [], ['maxEntries 8 9']],
    ['kind', lruHash(keyed), ['type hash lruHash'], []],
    ['key', hash({ ...keyed, key: u32 }), ['key be32 u32'], []],
    ['field', hash({ ...keyed, value: struct({ real: u32, packets: u32 }) }), ['value.packets u64 u32'], []],
    ['missing field', hash({ ...keyed, value: struct({ real: u32 }) }), ['value.packets u64 missing'], []],
    [
      'place',
      hash({ ...keyed, value: struct({ real: u32, packets: aligned(u64, 4) }) }),
      ['value.packets 8 bytes aligned to 8 8 bytes aligned to 4'],
      [],
    ],
    [
      'order',
      hash({ ...keyed, value: struct({ packets: u64, real: u32 }) }),
      ['value.real at byte 0 at byte 8', 'value.packets at byte 8 at byte 0'],
      [],
    ],
  ])('%s', (_, other, schema, more) => {
    const text = (list: ReturnType<typeof mapDifferences>): string[] => list.map(({ field, ours, theirs }) => `${field} ${ours} ${theirs}`);
    expect(text(schemaDifferences(base, other))).toEqual(schema);
    expect(text(mapDifferences(base, other))).toEqual([...schema, ...more]);
  });
});

test('an inner map is a spec in the spec; a bloom filter has its hashes', () => {
  const spec = toMapSpec(
    hashOfMaps({ name: 'tenants', key: u16, maxEntries: 8, inner: hash({ ...keyed, name: 'flows' }) }),
    'edge/tenants',
  );
  expect(spec.inner).toMatchObject({ name: 'edge/tenants.flows', type: 'hash', keySize: 4, valueSize: 16, maxEntries: 8 });
  expect(toMapSpec(bloomFilter({ ...indexed, hashes: 3 }), 'x')).toMatchObject({ extra: 3, btf: { keyTypeId: 0 } });
  expect('extra' in toMapSpec(bloomFilter(indexed), 'x')).toBe(false);
});

test('what cannot be declared', () => {
  expect(() => bloomFilter({ ...indexed, hashes: 16 })).toThrow("bloomFilter 'm': hashes is 16, expected 1..15");
  expect(() => queue({ ...indexed, value: nothing })).toThrow("queue 'm': the value is nothing, expected a schema with bytes");
  expect(() => sockhash({ name: 'm', key: array(u8, 513), maxEntries: 1 })).toThrow('the key takes 513 bytes, expected at most 512');
  expect(() => arrayOfMaps({ name: 'm', maxEntries: 1, inner: devmap({ name: 'd', maxEntries: 1 }) })).toThrow(
    "arrayOfMaps 'm': inner is of type devmap, expected a kind that programs look things up in",
  );
  const nested = arrayOfMaps({ name: 'n', maxEntries: 1, inner: hash(keyed) });
  expect(() => hashOfMaps({ name: 'm', key: u8, maxEntries: 1, inner: nested })).toThrow('inner is of type arrayOfMaps');
});

test('maps of maps differ where their inner maps do', () => {
  const of = (inner: AnyMap) => arrayOfMaps({ name: 'm', maxEntries: 1, inner });
  expect(schemaDifferences(of(hash(keyed)), of(hash({ ...keyed, maxEntries: 9 })))).toEqual([]);
  expect(mapDifferences(of(hash(keyed)), of(hash({ ...keyed, maxEntries: 9 })))).toEqual([
    { field: 'inner.maxEntries', ours: '8', theirs: '9' },
  ]);
  expect(schemaDifferences(of(hash(keyed)), of(lruHash({ ...keyed, value: u32 }))).map(({ field }) => field)).toEqual([
    'inner.type',
    'inner.value',
  ]);
  expect(mapDifferences(bloomFilter(indexed), bloomFilter({ ...indexed, hashes: 5 }))).toEqual([]);
  expect(mapDifferences(bloomFilter(indexed), bloomFilter({ ...indexed, hashes: 6 }))).toEqual([
    { field: 'hashes', ours: '5', theirs: '6' },
  ]);
});
