import { ArgumentError, joinBatches, type MapType, type ProgramSpec, type TestRunResult, type UpdateFlag } from '@tailrace/bpf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { mapSpec, u32 } from './fixture.ts';
import { HeldProgram } from './held.ts';
import { REGION_BASE, REGION_COUNT, REGION_LENGTH, REGION_READ_ONLY, REGION_SIZE, REGION_STRIDE, REGION_TABLE } from './layout.ts';
import { UserspaceMap } from './map.ts';
import { readParts } from './map-batch.ts';
import { EngineMemory } from './memory.ts';

const memory = new EngineMemory();
let ids = 0;

function make(type: MapType, rest: Parameters<typeof mapSpec>[1] = {}, cpus = 1, isShared = false): UserspaceMap {
  return new UserspaceMap(memory, mapSpec(type, rest), ++ids, cpus, isShared);
}

const NO_KEY = new Uint8Array(0);
const errno = (errnoName: string) => expect.objectContaining({ errnoName });
const keysOf = (map: UserspaceMap): number[] => [...new Uint32Array(map.readAll().keys.slice().buffer)].sort((a, b) => a - b);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Entries by key, in hexadecimal. */
function entriesOf(map: UserspaceMap): ReadonlyMap<string, string> {
  const { count, keys, values } = map.readAll();
  const { valueStride } = map;
  const { keySize } = map.spec;
  const entries = Array.from({ length: count }, (_, i) => [
    hex(keys.subarray(i * keySize, (i + 1) * keySize)),
    hex(values.subarray(i * valueStride, (i + 1) * valueStride)),
  ]);
  return new Map(entries as [string, string][]);
}

describe('hashes against a model', () => {
  const flag = fc.constantFrom<UpdateFlag>('any', 'any', 'noexist', 'exist');
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ what: fc.constant('update' as const), key: fc.nat(30), value: fc.nat(255), flag }) },
    { weight: 3, arbitrary: fc.record({ what: fc.constant('delete' as const), key: fc.nat(30) }) },
    { weight: 1, arbitrary: fc.record({ what: fc.constant('thin' as const), every: fc.integer({ min: 1, max: 3 }) }) },
  );

  test.each([
    [1, 1, 'hash'],
    [3, 1, 'hash'],
    [4, 1, 'hash'],
    [8, 1, 'hash'],
    [12, 1, 'hash'],
    [16, 1, 'hash'],
    [37, 1, 'hash'],
    [4, 3, 'perCpuHash'],
    [7, 2, 'perCpuHash'],
  ] as const)('keys of %i bytes, %i values', (keySize, cpus, type) => {
    const keyOf = (key: number): Uint8Array => Uint8Array.from({ length: keySize }, (_, i) => (i % 3 === 0 ? key : 0x55));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), (steps, isShared) => {
        const map = make(type, { keySize, valueSize: 5, maxEntries: 20 }, cpus, isShared);
        const model = new Map<string, string>();
        for (const each of steps) {
          if (each.what === 'thin') {
            // Every so manieth goes while the keys are walked; those that stay are all met.
            const before = new Set(model.keys());
            const met = new Set<string>();
            let last: Uint8Array | undefined;
            for (let key = map.nextKey(); key && !met.has(hex(key)); key = map.nextKey(last)) {
              met.add(hex(key));
              last = key;
              if (met.size % each.every !== 0) continue;
              last = undefined;
              expect(map.delete(key)).toBe(model.delete(hex(key)));
            }
            for (const key of met) expect(before.has(key)).toBe(true);
            if (each.every > 1) continue;
            expect([met, model.size]).toEqual([before, 0]);
            continue;
          }
          const key = keyOf(each.key);
          const isThere = model.has(hex(key));
          if (each.what === 'delete') expect(map.delete(key)).toBe(model.delete(hex(key)));
          else {
            const value = Uint8Array.from({ length: map.valueStride }, (_, i) => each.value + i);
            const refused = isThere ? each.flag === 'noexist' && 'EEXIST' : each.flag === 'exist' ? 'ENOENT' : model.size === 20 && 'E2BIG';
            if (refused) expect(() => map.update(key, value, each.flag)).toThrow(errno(refused));
            else {
              map.update(key, value, each.flag);
              model.set(hex(key), hex(value));
            }
          }
          const found = map.lookup(key);
          expect(found && hex(found)).toBe(model.get(hex(key)));
        }
        expect(entriesOf(map)).toEqual(model);
        map.close();
      }),
      { numRuns: 12 },
    );
  });

  test('a large one is filled, read, emptied and filled again', () => {
    const map = make('hash', { maxEntries: 50_000, keySize: 16 });
    const keys = new Uint8Array(16 * 50_000);
    for (let i = 0; i < 50_000; i++) new DataView(keys.buffer).setUint32(16 * i + 8, i * 64, true);
    for (let round = 0; round < 2; round++) {
      map.updateBatch({ count: 50_000, keys, values: new Uint8Array(50_000 * 16).fill(round) });
      expect(() => map.update(new Uint8Array(16).fill(1), new Uint8Array(16))).toThrow(errno('E2BIG'));
      const all = map.readAll();
      expect([all.count, new Set(new Uint32Array(all.keys.slice().buffer).filter((_, i) => i % 4 === 2)).size]).toEqual([50_000, 50_000]);
      expect(all.values.every((byte) => byte === round)).toBe(true);
      expect(map.deleteBatch(keys, 50_000)).toBe(50_000);
      expect(map.readAll().count).toBe(0);
    }
    map.close();
  });

  test('what is read in parts while others change it holds each key once', () => {
    // One entry a part: its key goes before the next part is read.
    const map = make('hash', { valueSize: 3 << 20, maxEntries: 20 }, 1, true);
    for (let key = 0; key < 20; key++) map.update(u32(key), new Uint8Array(3 << 20));
    const { runtime } = memory;
    const key = memory.allocate(4);
    memory.u8.set(u32(4), key);
    let parts = 0;
    const map_copy: typeof runtime.map_copy = (...args) => {
      const count = runtime.map_copy(...args);
      if (++parts === 5) runtime.map_delete(map.address, key);
      return count;
    };
    const spied = { runtime: { ...runtime, map_copy }, scratch: (bytes: number) => memory.scratch(bytes), u8: memory.u8 };
    const { keys } = joinBatches([...readParts(spied, map, true)]);
    expect([...new Uint32Array(keys.slice().buffer)]).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(parts).toBe(1 + 20 + 4);
    map.close();
  });
});

describe('program arrays', () => {
  class SampleProgram extends HeldProgram {
    readonly spec: ProgramSpec;
    readonly id: number;
    readonly memory: EngineMemory;
    disposed = 0;
    constructor(id: number, rest: Partial<ProgramSpec> = {}, on = memory) {
      super();
      this.id = id;
      this.memory = on;
      this.spec = {
        name: `p${id}`,
        type: 'xdp',
        frags: true,
        license: 'MIT',
        instructions: [],
        mapReferences: [],
        functions: [],
        lines: [],
        ...rest,
      };
    }
    testRun(): Promise<TestRunResult> {
      return Promise.reject(new ArgumentError('never run'));
    }
    protected dispose(): void {
      this.disposed += 1;
    }
  }

  test('slots are set, replaced, cleared, and hold their programs', async () => {
    const array = make('programArray', { maxEntries: 4 });
    const [one, two] = [new SampleProgram(70), new SampleProgram(71)];
    await array.setProgram(1, one);
    await array.setProgram(3, one);
    expect([...array.programs]).toEqual([
      [1, one],
      [3, one],
    ]);
    expect([array.lookup(u32(1)), array.lookup(u32(0)), keysOf(array)]).toEqual([u32(70), undefined, [1, 3]]);
    const { version } = array;
    await array.setProgram(1, two);
    expect(array.version).not.toBe(version);
    one.close();
    expect(one.disposed).toBe(0);
    await expect(array.setProgram(0, one)).rejects.toThrow(new ArgumentError('program p70 is closed'));
    await array.clearProgram(3);
    await array.clearProgram(3);
    expect(one.disposed).toBe(1);
    expect(array.delete(u32(1))).toBe(true);
    expect(array.programs.size).toBe(0);
    await array.setProgram(2, two);
    two.close();
    array.close();
    expect(two.disposed).toBe(1);
    await expect(array.setProgram(2, new SampleProgram(72))).rejects.toThrow('map sample/programArray is closed');
  });

  test('closing it empties it, though a program of it still holds it', async () => {
    const array = make('programArray', { maxEntries: 1 });
    const program = new SampleProgram(1);
    array.hold();
    await array.setProgram(0, program);
    program.close();
    array.close();
    expect([program.disposed, array.programs.size]).toEqual([1, 0]);
    array.release();
  });

  test('what does not belong there', async () => {
    const array = make('programArray', { maxEntries: 4 });
    await array.setProgram(0, new SampleProgram(1));
    await expect(array.setProgram(1, new SampleProgram(2, { frags: false }))).rejects.toMatchObject({
      errnoName: 'EINVAL',
      hint: 'programs that name or fill one program array must agree on type, frags flag and expected attach type',
    });
    expect(() => array.admit(new SampleProgram(2, { type: 'schedCls' }).spec)).toThrow(
      'map sample/programArray, program p2 failed: EINVAL',
    );
    await expect(array.setProgram(4, new SampleProgram(1))).rejects.toThrow('map sample/programArray has slots 0 to 3, got 4');
    await expect(make('hash').setProgram(0, new SampleProgram(1))).rejects.toThrow('map sample/hash is no program array');
    await expect(make('hash').clearProgram(0)).rejects.toThrow('map sample/hash is no program array');
    const foreign = {
      spec: new SampleProgram(9).spec,
      id: 1,
      testRun: () => Promise.reject(new ArgumentError('')),
      close: () => undefined,
    };
    await expect(array.setProgram(1, foreign)).rejects.toThrow('program p9 was not loaded by the userspace engine');
    await expect(array.setProgram(1, new SampleProgram(3, {}, new EngineMemory()))).rejects.toThrow(
      'program p3 was loaded by another userspace engine',
    );
    expect(() => array.update(u32(0), u32(0))).toThrow('map sample/programArray holds programs, not bytes');
    expect([...array.programs.keys()]).toEqual([0]);
  });
});

describe('maps of maps', () => {
  const inner = mapSpec('hash', { name: 'sample/inner', valueSize: 8, maxEntries: 4 });
  const makeInner = (): UserspaceMap => new UserspaceMap(memory, inner, ++ids, 1);

  test.each(['arrayOfMaps', 'hashOfMaps'] as const)('%s: put, found by id, replaced, taken away', async (type) => {
    const before = memory.used;
    const outer = make(type, { maxEntries: 4, inner });
    const [one, two] = [makeInner(), makeInner()];
    expect(await outer.clearMap(u32(1))).toBe(false);
    await outer.setMap(u32(1), one);
    await outer.setMap(u32(3), one);
    await outer.setMap(u32(3), two);
    expect([outer.lookup(u32(0)), outer.lookup(u32(1)), outer.lookup(u32(3))]).toEqual([undefined, u32(one.id), u32(two.id)]);
    expect(keysOf(outer)).toEqual([1, 3]);
    expect([...entriesOf(outer).values()].sort()).toEqual([hex(u32(one.id)), hex(u32(two.id))].sort());
    // Programs find the map itself.
    const key = memory.allocate(4);
    memory.u8.set(u32(3), key);
    expect(memory.runtime.map_lookup(outer.address, key, 0)).toBe(two.address);
    expect(await outer.clearMap(u32(1))).toBe(true);
    expect(memory.runtime.map_lookup(outer.address, key, 0)).toBe(two.address);
    memory.u8.set(u32(1), key);
    expect(memory.runtime.map_lookup(outer.address, key, 0)).toBe(0);
    memory.free(key);
    // Closed here, it lives on under its key.
    two.close();
    expect(outer.lookup(u32(3))).toEqual(u32(two.id));
    await expect(outer.setMap(u32(1), two)).rejects.toThrow('map sample/inner is closed');
    expect(() => outer.update(u32(1), u32(1))).toThrow('holds maps, not bytes');
    await expect(outer.setMap(u32(1), make('array'))).rejects.toMatchObject({
      errnoName: 'EINVAL',
      hint: 'an inner map must be of the kind, sizes and flags that the outer map was made for',
    });
    const elsewhere = new UserspaceMap(new EngineMemory(), inner, 1, 1);
    await expect(outer.setMap(u32(1), elsewhere)).rejects.toThrow('map sample/inner was made by another userspace engine');
    await expect(outer.setMap(NO_KEY, one)).rejects.toThrow('takes 4 bytes, got 0');
    await expect(makeInner().setMap(u32(1), one)).rejects.toThrow('map sample/inner is no map of maps');
    outer.close();
    one.close();
    expect(memory.used).toBeGreaterThan(before); // what the refused calls made
  });

  test('what nobody holds is freed, and only that', async () => {
    const before = memory.used;
    const outer = make('hashOfMaps', { maxEntries: 4, inner });
    const one = makeInner();
    for (const key of [1, 2, 2, 3]) await outer.setMap(u32(key), one);
    const used = memory.used;
    one.close();
    await outer.clearMap(u32(2));
    outer.delete(u32(1));
    expect(memory.used).toBe(used);
    await outer.clearMap(u32(3));
    expect(memory.used).toBeLessThan(used);
    await outer.setMap(u32(9), makeInner());
    outer.close();
    expect(memory.used).toBeGreaterThan(before); // the last one is open
  });

  test('full, and beyond the end', async () => {
    const one = makeInner();
    const array = make('arrayOfMaps', { maxEntries: 2, inner });
    await expect(array.setMap(u32(2), one)).rejects.toMatchObject({ errnoName: 'E2BIG' });
    expect(await array.clearMap(u32(2))).toBe(false);
    const table = make('hashOfMaps', { maxEntries: 1, inner });
    await table.setMap(u32(1), one);
    await expect(table.setMap(u32(2), one)).rejects.toMatchObject({ errnoName: 'E2BIG' });
    one.close();
    table.close();
    array.close();
  });
});

describe('bloom filters', () => {
  test('they have what was added, and little else', () => {
    const map = make('bloomFilter', { maxEntries: 1000, extra: 4 });
    for (let value = 0; value < 1000; value++) map.update(NO_KEY, u32(value));
    const has = (from: number): number => Array.from({ length: 1000 }, (_, i) => map.has(u32(from + i))).filter(Boolean).length;
    expect(has(0)).toBe(1000);
    expect(has(5000)).toBeLessThan(100);
    expect(() => map.has(NO_KEY)).toThrow('a value of map sample/bloomFilter takes 4 bytes, got 0');
    expect(() => map.update(NO_KEY, u32(1), 'exist')).toThrow(errno('EINVAL'));
    expect(() => map.lookup(NO_KEY)).toThrow(expect.objectContaining({ hint: 'use has' }));
    map.close();
  });
});

describe('life and death', () => {
  test('memory, tag and region are there until nobody holds the map', () => {
    const own = new EngineMemory();
    own.scratch(1);
    const before = own.used;
    const map = new UserspaceMap(own, mapSpec('hash'), 1, 1);
    const row = REGION_TABLE + map.tag * REGION_SIZE;
    expect(own.view.getUint32(row + REGION_BASE, true)).not.toBe(0);
    map.hold();
    map.close();
    map.close();
    expect(map.closed).toBe(true);
    for (const call of [() => map.lookup(u32(1)), () => map.readAll(), () => map.hold(), () => map.nextKey(), () => map.delete(u32(1))])
      expect(call).toThrow(new ArgumentError('map sample/hash is closed'));
    expect(own.used).toBeGreaterThan(before);
    map.release();
    expect(own.used).toBe(before);
    expect([...own.u8.subarray(row, row + REGION_SIZE)]).toEqual(new Array(REGION_SIZE).fill(0));
  });

  test('a map that cannot be made leaves nothing behind', () => {
    const own = new EngineMemory();
    expect(() => new UserspaceMap(own, mapSpec('hash', { maxEntries: 0xffff_ffff }), 1, 1)).toThrow(
      'memory.grow for map sample/hash failed: ENOMEM, not enough memory',
    );
    expect(() => new UserspaceMap(own, mapSpec('array', { valueSize: 0x7fff_ffff, maxEntries: 2 }), 1, 1)).toThrow(errno('ENOMEM'));
    expect(() => new UserspaceMap(own, mapSpec('hash', { keySize: 0 }), 1, 1)).toThrow(
      'map sample/hash (hash): keySize is 0, expected 1 to 2147483647',
    );
    expect(own.used).toBe(0);
  });

  test.each<[MapType, number, readonly [length: number, stride: number, count: number] | undefined]>([
    ['array', 1, [12, 16, 5]],
    ['array', 4, [12, 16, 5]],
    ['hash', 1, [12, 32, 5]],
    ['perCpuArray', 1, [12, 16, 5]],
    ['perCpuArray', 4, [12, 64, 20]],
    ['lruPerCpuHash', 4, [12, 64, 20]],
    ['lpmTrie', 1, [12, 16, 5]],
    ['devmap', 1, [4, 8, 5 + REGION_READ_ONLY]],
    ['queue', 1, undefined],
    ['programArray', 1, undefined],
    ['xskmap', 1, undefined],
  ])('%s with %i CPUs: what programs may touch', (type, cpus, expected) => {
    const map = make(
      type,
      type === 'devmap' || type === 'programArray' || type === 'xskmap' ? { maxEntries: 5 } : { valueSize: 12, maxEntries: 5 },
      cpus,
    );
    const row = REGION_TABLE + map.tag * REGION_SIZE;
    const field = (offset: number): number => memory.view.getUint32(row + offset, true);
    const found = [field(REGION_LENGTH), field(REGION_STRIDE), field(REGION_COUNT)];
    expect(found).toEqual(expected ?? [0, 0, 0]);
    if (expected && type !== 'devmap') {
      // Every value that a program can be given is an element of it.
      const key = memory.allocate(8);
      if (type === 'lpmTrie') memory.u8.set(u32(32), key);
      memory.runtime.map_update_entry(map.address, key, memory.scratch(map.valueStride), 0);
      for (let cpu = 0; cpu < cpus; cpu++) {
        const offset = memory.runtime.map_lookup(map.address, key, cpu) - field(REGION_BASE);
        expect([offset % field(REGION_STRIDE), offset / field(REGION_STRIDE) < field(REGION_COUNT)]).toEqual([0, true]);
      }
      memory.free(key);
    }
    map.close();
  });
});
