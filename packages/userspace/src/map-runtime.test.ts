/** Maps as programs meet them: the runtime's functions on keys and values that lie in memory. */
import type { MapType } from '@tailrace/bpf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { mapSpec, u32 } from './fixture.ts';
import { MAP_COUNT } from './layout.ts';
import { UserspaceMap } from './map.ts';
import { EngineMemory } from './memory.ts';

const memory = new EngineMemory();
const { runtime } = memory;
const key = memory.allocate(512);
const value = memory.allocate(512);
const out = memory.allocate(512);
const [EINVAL, ENOENT, EEXIST, E2BIG, EOPNOTSUPP] = [-22n, -2n, -17n, -7n, -95n];

function make(type: MapType, rest: Parameters<typeof mapSpec>[1] = {}, cpus = 1, isShared = false): UserspaceMap {
  return new UserspaceMap(memory, mapSpec(type, rest), 1, cpus, isShared);
}

const put = (address: number, bytes: Uint8Array): number => {
  memory.u8.set(bytes, address);
  return address;
};
const bytesAt = (address: number, length: number): number[] => [...memory.u8.subarray(address, address + length)];
const update = ({ address }: UserspaceMap, at: Uint8Array, bytes: Uint8Array, flags = 0n, cpu = 0): bigint =>
  runtime.map_update(address, put(key, at), put(value, bytes), flags, cpu);
const lookup = ({ address }: UserspaceMap, at: Uint8Array, cpu = 0): number => runtime.map_lookup(address, put(key, at), cpu);

describe('values stay where they are', () => {
  test.each<[MapType, number]>([
    ['array', 1],
    ['perCpuArray', 3],
    ['hash', 1],
    ['perCpuHash', 3],
    ['lruHash', 1],
    ['lruPerCpuHash', 3],
  ])('%s of %i CPUs', (type, cpus) => {
    const map = make(type, {}, cpus);
    update(map, u32(5), new Uint8Array(16).fill(1));
    const places = Array.from({ length: cpus }, (_, cpu) => lookup(map, u32(5), cpu));
    for (let other = 6; other < 60; other++) update(map, u32(other), new Uint8Array(16).fill(2));
    update(map, u32(5), new Uint8Array(16).fill(3), 2n, cpus - 1);
    expect(Array.from({ length: cpus }, (_, cpu) => lookup(map, u32(5), cpu))).toEqual(places);
    expect(new Set(places).size).toBe(cpus);
    expect(bytesAt(places[cpus - 1] as number, 16)).toEqual(new Array(16).fill(3));
    map.close();
  });

  test('one value is for all CPUs, whichever asks', () => {
    for (const type of ['array', 'hash', 'lruHash'] as const) {
      const map = make(type, {}, 4);
      update(map, u32(1), new Uint8Array(16), 0n, 3);
      expect(lookup(map, u32(1), 3)).toBe(lookup(map, u32(1), 0));
      map.close();
    }
  });
});

test.each(['perCpuHash', 'lruPerCpuHash'] as const)('%s: a new entry is zero for the other CPUs, an old one stays', (type) => {
  const map = make(type, { valueSize: 4, maxEntries: 1 }, 3);
  update(map, u32(1), u32(7), 0n, 1);
  update(map, u32(1), u32(8), 0n, 2);
  const read = (): number[] => [0, 1, 2].map((cpu) => memory.view.getUint32(lookup(map, u32(1), cpu), true));
  expect(read()).toEqual([0, 7, 8]);
  runtime.map_delete(map.address, put(key, u32(1)));
  update(map, u32(1), u32(9), 0n, 0);
  expect(read()).toEqual([9, 0, 0]);
  map.close();
});

describe('flags', () => {
  test.each<[MapType, readonly bigint[]]>([
    // any, noexist, exist, both, BPF_F_LOCK, of a key that is there
    ['array', [0n, EEXIST, 0n, EINVAL, EINVAL]],
    ['perCpuArray', [0n, EEXIST, 0n, EINVAL, EINVAL]],
    ['hash', [0n, EEXIST, 0n, EINVAL, EINVAL]],
    ['lruHash', [0n, EEXIST, 0n, EINVAL, EINVAL]],
    ['perCpuHash', [0n, EEXIST, 0n, EINVAL, EINVAL]],
    ['lpmTrie', [0n, EEXIST, 0n, EINVAL, EINVAL]],
  ])('%s', (type, expected) => {
    const map = make(type);
    const at = type === 'lpmTrie' ? Uint8Array.of(...u32(8), 10, 0, 0, 0) : u32(1);
    expect(update(map, at, new Uint8Array(16))).toBe(0n);
    expect([0n, 1n, 2n, 3n, 4n].map((flags) => update(map, at, new Uint8Array(16), flags))).toEqual(expected);
    expect(update(map, at, new Uint8Array(16), 1n << 40n)).toBe(EINVAL);
    map.close();
  });

  test('what a kind does not have', () => {
    const [array, queue, bloom, ring] = [make('array'), make('queue'), make('bloomFilter'), make('ringBuffer', { maxEntries: 4096 })];
    put(key, u32(64));
    expect(runtime.map_update(array.address, key, value, 0n, 0)).toBe(E2BIG);
    expect([array, queue, bloom, ring].map(({ address }) => runtime.map_delete(address, key))).toEqual([EINVAL, EINVAL, EOPNOTSUPP, -524n]);
    expect([array, queue, bloom, ring].map(({ address }) => runtime.map_lookup(address, key, 0))).toEqual([0, 0, 0, 0]);
    expect([queue, bloom, ring].map(({ address }) => runtime.map_update(address, key, value, 0n, 0))).toEqual([EINVAL, EINVAL, -524n]);
    expect([array, ring].map(({ address }) => runtime.map_push(address, value, 0n))).toEqual([EOPNOTSUPP, EOPNOTSUPP]);
    expect([array, bloom].map(({ address }) => runtime.map_pop(address, value))).toEqual([EOPNOTSUPP, EOPNOTSUPP]);
    expect(runtime.map_peek(array.address, value)).toBe(EOPNOTSUPP);
    expect(runtime.map_push(bloom.address, value, 2n)).toBe(EINVAL);
    for (const map of [array, queue, bloom, ring]) map.close();
  });
});

describe('look-ups for one size of keys', () => {
  test.each([1, 4, 5, 8, 13, 16, 24, 40])('%i bytes: all find the same, alone and shared', (keySize) => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: keySize, maxLength: keySize }), { minLength: 1, maxLength: 40 }), (keys) => {
        for (const isShared of [false, true]) {
          const map = make('hash', { keySize, valueSize: 8 }, 1, isShared);
          for (const [i, each] of keys.entries()) if (i % 2 === 0) update(map, each, new Uint8Array(8).fill(i));
          for (const each of keys) {
            // Programs have keys anywhere.
            put(key + 3, each);
            const found = runtime.map_entry(map.address, key + 3);
            expect(runtime.map_lookup(map.address, key + 3, 0)).toBe(found);
            expect(runtime.hash_lookup_any(map.address, key + 3, 0)).toBe(found);
            const special = { 4: runtime.hash_lookup4, 8: runtime.hash_lookup8, 16: runtime.hash_lookup16 }[keySize];
            expect(special?.(map.address, key + 3, 0) ?? found).toBe(found);
          }
          expect(keys.filter((_, i) => i % 2 === 0).every((each) => lookup(map, each) !== 0)).toBe(true);
          map.close();
        }
      }),
      { numRuns: 15 },
    );
  });

  test('keys that differ in any one bit have buckets of their own, mostly', () => {
    // Chains of a bad hash would make this take seconds.
    const start = performance.now();
    for (const keySize of [4, 8, 12, 16, 32]) {
      const map = make('hash', { keySize, valueSize: 4, maxEntries: 1 << 15 });
      for (let shift = 0; shift + 2 <= keySize; shift += 2) {
        const base = new Uint8Array(keySize);
        for (let i = 0; i < 2000; i++) {
          new DataView(base.buffer).setUint16(shift, i);
          update(map, base, u32(i));
        }
      }
      map.close();
    }
    expect(performance.now() - start).toBeLessThan(1500);
  });
});

describe('LRU hashes', () => {
  test.each([
    ['lruHash', 1, false],
    ['lruHash', 1, true],
    ['lruPerCpuHash', 2, false],
  ] as const)('%s, %i CPUs, shared %s: what programs asked for stays', (type, cpus, isShared) => {
    const map = make(type, { valueSize: 4, maxEntries: 100 }, cpus, isShared);
    for (let i = 0; i < 100; i++) expect(update(map, u32(i), u32(i))).toBe(0n);
    // Never more than 100, never E2BIG; 0 to 9 are asked for between any two new ones.
    for (let i = 100; i < 1000; i++) {
      for (let kept = 0; kept < 10; kept++) expect(lookup(map, u32(kept))).not.toBe(0);
      expect(update(map, u32(i), u32(i))).toBe(0n);
      expect(map.field(MAP_COUNT)).toBe(100);
      expect(memory.view.getUint32(lookup(map, u32(i)), true)).toBe(i);
    }
    expect(map.readAll().count).toBe(100);
    map.close();
  });

  test('handles look without a trace, and the oldest go first', () => {
    const map = make('lruHash', { valueSize: 4, maxEntries: 4 });
    for (let i = 0; i < 4; i++) map.update(u32(i), u32(i));
    expect(map.lookup(u32(0))).toEqual(u32(0));
    lookup(map, u32(1));
    map.update(u32(4), u32(4));
    map.update(u32(5), u32(5));
    expect([0, 1, 2, 3, 4, 5].map((i) => map.lookup(u32(i)) !== undefined)).toEqual([false, true, false, true, true, true]);
    map.close();
  });

  test('an update that is refused evicts nothing', () => {
    const map = make('lruHash', { valueSize: 4, maxEntries: 2 });
    for (let i = 0; i < 2; i++) map.update(u32(i), u32(i));
    expect(update(map, u32(9), u32(9), 2n)).toBe(ENOENT);
    expect(update(map, u32(1), u32(9), 1n)).toBe(EEXIST);
    expect([map.lookup(u32(0)), map.lookup(u32(1))]).toEqual([u32(0), u32(1)]);
    map.close();
  });

  test('where all are asked for all the time, one still goes', () => {
    const map = make('lruHash', { valueSize: 4, maxEntries: 5000 });
    for (let i = 0; i < 5000; i++) update(map, u32(i), u32(i));
    for (let i = 0; i < 5000; i++) lookup(map, u32(i));
    expect(update(map, u32(5000), u32(1))).toBe(0n);
    expect([map.field(MAP_COUNT), lookup(map, u32(5000)) !== 0]).toEqual([5000, true]);
    map.close();
  });
});

describe('tries', () => {
  const prefix = fc.tuple(fc.nat(20), fc.array(fc.constantFrom(0, 1, 0x80, 0xc0, 0xff), { minLength: 3, maxLength: 3 }));
  const keyOf = ([bits, data]: readonly [number, readonly number[]]): Uint8Array => Uint8Array.of(...u32(bits), ...data);
  const text = ([bits, data]: readonly [number, readonly number[]]): string =>
    data
      .map((byte) => byte.toString(2).padStart(8, '0'))
      .join('')
      .slice(0, bits);

  test.each([false, true])('the longest prefix wins, in the order of the kernel (shared: %s)', (isShared) => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), prefix), { maxLength: 60 }), fc.array(prefix, { maxLength: 20 }), (steps, asked) => {
        const map = make('lpmTrie', { keySize: 7, valueSize: 4, maxEntries: 25 }, 1, isShared);
        const model = new Map<string, number>();
        for (const [i, [isDelete, entry]] of steps.entries()) {
          if (isDelete) expect(runtime.map_delete(map.address, put(key, keyOf(entry)))).toBe(model.delete(text(entry)) ? 0n : ENOENT);
          else if (!model.has(text(entry)) && model.size === 25) expect(update(map, keyOf(entry), u32(i))).toBe(-28n);
          else {
            expect(update(map, keyOf(entry), u32(i))).toBe(0n);
            model.set(text(entry), i);
          }
        }
        for (const each of [...asked, ...steps.map(([, entry]) => entry)]) {
          const bits = text(each);
          const longest = Array.from({ length: bits.length + 1 }, (_, cut) => bits.slice(0, bits.length - cut)).find((each) =>
            model.has(each),
          );
          const found = lookup(map, keyOf(each));
          expect(found === 0 ? undefined : memory.view.getUint32(found, true)).toBe(longest === undefined ? undefined : model.get(longest));
        }
        // Post-order: what lies in a prefix comes before it.
        const { count, keys } = map.readAll();
        const order = Array.from({ length: count }, (_, i) => text([keys[7 * i] as number, [...keys.subarray(7 * i + 4, 7 * i + 7)]]));
        expect(order).toEqual([...model.keys()].sort((a, b) => (a.startsWith(b) ? -1 : b.startsWith(a) ? 1 : a < b ? -1 : 1)));
        map.close();
      }),
      { numRuns: 60 },
    );
  });

  test('prefixes longer than the key', () => {
    const map = make('lpmTrie', { keySize: 7, valueSize: 4 });
    const long = keyOf([25, [0, 0, 0]]);
    expect([update(map, long, u32(0)), runtime.map_delete(map.address, put(key, long)), lookup(map, long)]).toEqual([EINVAL, EINVAL, 0]);
    update(map, keyOf([24, [1, 2, 3]]), u32(5));
    update(map, keyOf([0, [0, 0, 0]]), u32(6));
    expect([lookup(map, long), map.nextKey(long)]).toEqual([0, keyOf([24, [1, 2, 3]])]);
    map.close();
  });

  test('entries come and go for ever in a full one', () => {
    const map = make('lpmTrie', { keySize: 7, valueSize: 4, maxEntries: 16 });
    for (let round = 0; round < 2000; round++) {
      const entry = (n: number): Uint8Array => keyOf([8 + ((n * 7) % 17), [n & 0xff, (n * 37) & 0xff, (n * 11) & 0xff]]);
      expect(update(map, entry(round), u32(round))).toBe(0n);
      if (round >= 15) expect(runtime.map_delete(map.address, put(key, entry(round - 15)))).toBe(0n);
    }
    expect(map.readAll().count).toBe(15);
    map.close();
  });
});

describe('queues and stacks against a model', () => {
  test.each(['queue', 'stack'] as const)('%s', (type) => {
    const step = fc.oneof(
      fc.record({ push: fc.nat(1000), flags: fc.constantFrom(0n, 0n, 1n, 2n, 2n, 3n, 4n) }),
      fc.record({ take: fc.constantFrom('pop' as const, 'peek' as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 5 }), fc.boolean(), (steps, maxEntries, isShared) => {
        const map = make(type, { maxEntries }, 1, isShared);
        const model: number[] = [];
        for (const each of steps) {
          if ('push' in each) {
            const refused = each.flags !== 0n && each.flags !== 2n ? EINVAL : each.flags === 0n && model.length === maxEntries ? E2BIG : 0n;
            expect(runtime.map_push(map.address, put(value, u32(each.push)), each.flags)).toBe(refused);
            if (refused !== 0n) continue;
            if (model.length === maxEntries) model.shift();
            model.push(each.push);
            continue;
          }
          const next = type === 'queue' ? model[0] : model.at(-1);
          put(out, u32(0xffff_ffff));
          const take = each.take === 'pop' ? runtime.map_pop : runtime.map_peek;
          expect(take(map.address, out)).toBe(next === undefined ? ENOENT : 0n);
          // Where there is none, the place is zeroed.
          expect(memory.view.getUint32(out, true)).toBe(next ?? 0);
          if (each.take === 'pop') model.splice(type === 'queue' ? 0 : -1, 1);
        }
        expect(map.field(MAP_COUNT)).toBe(model.length);
        map.close();
      }),
      { numRuns: 60 },
    );
  });
});
