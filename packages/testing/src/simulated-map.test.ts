import { arrayOfMaps, bloomFilter, hash, ipv4Prefix, lpmTrie, perCpuHash, queue, stack, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SimulatedMaps } from './simulated-map.ts';

const key = (length: number, address: number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, length, true);
  new DataView(bytes.buffer).setUint32(4, address);
  return bytes;
};
const matches = (prefix: number, address: number, wanted: number): boolean =>
  prefix === 0 || address >>> (32 - prefix) === wanted >>> (32 - prefix);

test('the longest prefix that a key holds wins', () => {
  const prefixes = fc.array(fc.record({ length: fc.nat(32), address: fc.nat(0xff).map((low) => (0x0a000000 | low) >>> 0) }), {
    maxLength: 20,
  });
  fc.assert(
    fc.property(prefixes, fc.nat(0xff), fc.integer({ min: 20, max: 32 }), (entries, low, length) => {
      const trie = new SimulatedMaps().of(lpmTrie({ name: 'trie', key: ipv4Prefix, value: u8, maxEntries: 100 }));
      for (const [index, entry] of entries.entries()) trie.update(key(entry.length, entry.address), Uint8Array.of(index));
      const wanted = (0x0a000000 | low) >>> 0;
      const fitting = entries
        .map((entry, index) => ({ ...entry, index }))
        .filter((entry) => entry.length <= length && matches(entry.length, entry.address, wanted));
      const longest = Math.max(-1, ...fitting.map((entry) => entry.length));
      expect(trie.lookup(key(length, wanted))?.[0]).toBe(fitting.findLast((entry) => entry.length === longest)?.index);
    }),
    { numRuns: 200 },
  );
});

test('prefixes that are too long match nothing and cannot be written', () => {
  const trie = new SimulatedMaps().of(lpmTrie({ name: 'trie', key: ipv4Prefix, value: u8, maxEntries: 1 }));
  trie.update(key(0, 0), Uint8Array.of(1));
  expect(trie.lookup(key(33, 0))).toBeUndefined();
  expect(trie.tryUpdate(key(33, 0), Uint8Array.of(1))).toBe('invalid');
  expect(trie.delete(key(33, 0))).toBe(false);
  expect(() => trie.update(key(8, 0), Uint8Array.of(1))).toThrow('map trie: the key cannot be written, the map is full');
  expect(trie.delete(key(0, 77))).toBe(true);
});

test('batches, keys in turn, and flags', () => {
  const table = new SimulatedMaps().of(hash({ name: 'table', key: struct({ a: u16 }), value: u32, maxEntries: 3 }));
  table.updateBatch({ count: 2, keys: Uint8Array.of(1, 0, 2, 0), values: Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0) });
  expect(table.readAll()).toEqual({ count: 2, keys: Uint8Array.of(1, 0, 2, 0), values: Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0) });
  expect(table.nextKey()).toEqual(Uint8Array.of(1, 0));
  expect(table.nextKey(Uint8Array.of(1, 0))).toEqual(Uint8Array.of(2, 0));
  expect(table.nextKey(Uint8Array.of(2, 0))).toBeUndefined();
  expect(() => table.update(Uint8Array.of(1, 0), new Uint8Array(4), 'noexist')).toThrow('it is there already');
  expect(() => table.update(Uint8Array.of(9, 0), new Uint8Array(4), 'exist')).toThrow('it is not there');
  expect(() => table.update(Uint8Array.of(9), new Uint8Array(4))).toThrow('map table: a key of 1 bytes, expected 2');
  expect(() => table.update(Uint8Array.of(9, 0), new Uint8Array(5))).toThrow('map table: a value of 5 bytes, expected 4');
  table.deleteBatch(Uint8Array.of(1, 0, 2, 0), 2);
  expect(table.readAll().count).toBe(0);
});

test('values without keys: what comes next, what goes where it is full, what was ever added', () => {
  const [first, last] = [queue({ name: 'q', value: u16, maxEntries: 2 }), stack({ name: 's', value: u16, maxEntries: 2 })];
  for (const [declaration, order] of [
    [first, [2, 3]],
    [last, [3, 2]],
  ] as const) {
    const map = new SimulatedMaps().of(declaration);
    for (const value of [1, 2]) map.update(new Uint8Array(0), Uint8Array.of(value, 0));
    expect(() => map.update(new Uint8Array(0), Uint8Array.of(3, 0))).toThrow('the value cannot be put in, the map is full');
    map.update(new Uint8Array(0), Uint8Array.of(3, 0), 'exist');
    expect(map.lookup(new Uint8Array(0))?.[0]).toBe(order[0]);
    expect([map.pop()?.[0], map.pop()?.[0], map.pop()]).toEqual([...order, undefined]);
    expect(() => map.update(new Uint8Array(0), new Uint8Array(3))).toThrow('a value of 3 bytes, expected 2');
  }
  const filter = new SimulatedMaps().of(bloomFilter({ name: 'f', value: u8, maxEntries: 1 }));
  for (const value of [1, 2, 2]) filter.update(new Uint8Array(0), Uint8Array.of(value));
  expect([filter.has(Uint8Array.of(2)), filter.has(Uint8Array.of(3))]).toEqual([true, false]);
});

test('maps in maps are the maps that were put in', async () => {
  const maps = new SimulatedMaps();
  const inner = hash({ name: 'inner', key: u8, value: u8, maxEntries: 4 });
  const outer = maps.of(arrayOfMaps({ name: 'outer', maxEntries: 2, inner }));
  const one = maps.of(inner);
  await outer.setMap(Uint8Array.of(1, 0, 0, 0), one);
  expect([outer.inner(Uint8Array.of(1, 0, 0, 0)), outer.inner(Uint8Array.of(0, 0, 0, 0))]).toEqual([one, undefined]);
  await expect(outer.setMap(Uint8Array.of(2, 0, 0, 0), one)).rejects.toThrow('the map is full');
  expect(() => outer.update(Uint8Array.of(1, 0, 0, 0), new Uint8Array(4))).toThrow('holds maps, not bytes');
  expect([await outer.clearMap(Uint8Array.of(1, 0, 0, 0)), outer.inner(Uint8Array.of(1, 0, 0, 0))]).toEqual([true, undefined]);
});

test('a reference is live; an update in its place makes a new value, but for per-CPU maps', () => {
  const maps = new SimulatedMaps();
  for (const [declaration, sees] of [
    [hash({ name: 'h', key: u8, value: u64, maxEntries: 1 }), 1],
    [perCpuHash({ name: 'p', key: u8, value: u64, maxEntries: 1 }), 9],
  ] as const) {
    const map = maps.of(declaration);
    map.update(Uint8Array.of(0), Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0));
    const reference = map.reference(Uint8Array.of(0)) ?? new Uint8Array();
    reference[0] = 1;
    expect(map.lookup(Uint8Array.of(0))?.[0]).toBe(1);
    map.update(Uint8Array.of(0), Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0));
    expect(reference[0]).toBe(sees);
  }
  expect(maps.of(hash({ name: 'h', key: u8, value: u64, maxEntries: 1 })).readAll().count).toBe(0);
});
