import {
  type AnyMap,
  array,
  arrayMap,
  bloomFilter,
  bool,
  ConflictError,
  defineStructure,
  devmap,
  hash,
  hashOfMaps,
  i32,
  lruPerCpuHash,
  perCpuArray,
  perCpuHash,
  programArray,
  queue,
  sockhash,
  stack,
  struct,
  u16,
  u32,
  u64,
  xskmap,
} from '@tailrace/stage';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FakeEngine, fakeCompiler } from './fake-engine.ts';
import { EngineMapRegistry, type MapClaim } from './registry.ts';

const claim = (map: AnyMap, scope = 'edge', user = 'acl'): MapClaim => ({ map, scope, user });
const table = (name = 'table', options: { readonly global?: boolean; readonly maxEntries?: number } = {}) =>
  hash({ name, key: u32, value: u64, maxEntries: 8, ...options });
const fresh = () => {
  const engine = new FakeEngine();
  return { engine, registry: new EngineMapRegistry(engine) };
};

describe('identity', () => {
  test('one declaration is one map, two are two, whatever their names', () => {
    const { engine, registry } = fresh();
    const [a, b] = [table(), table()];
    using _first = registry.hold([claim(a), claim(a, 'edge', 'other')]);
    using _second = registry.hold([claim(a), claim(b, 'lb', 'lb')]);
    expect(engine.openNames).toEqual(['edge/table', 'lb/table']);
    registry.handle(a).set(1, 1n);
    expect(registry.handle(b).get(1)).toBeUndefined();
    expect(registry.handle(a)).toBe(registry.handle(a));
  });

  test('a map closes with its last holder', () => {
    const { engine, registry } = fresh();
    const map = table();
    const [first, second] = [registry.hold([claim(map)]), registry.hold([claim(map)])];
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    expect(engine.openNames).toEqual(['edge/table']);
    second[Symbol.dispose]();
    expect(engine.openNames).toEqual([]);
    expect(() => registry.handle(map)).toThrow("map 'table' is not in this pipeline");
  });

  test('two stages may each have a map of one name; one stage or function may not', () => {
    const { engine, registry } = fresh();
    using _hold = registry.hold([claim(table(), 'edge', 'small'), claim(table(), 'edge', 'large')]);
    expect(engine.openNames).toEqual(['edge/large.table', 'edge/small.table']);
    expect(() => registry.hold([claim(table('t'), 'lb', 'lb'), claim(table('t', { maxEntries: 9 }), 'lb', 'lb')])).toThrow(
      "two maps named 'lb/t': maxEntries is 9 and 8",
    );
    expect(engine.openNames).toHaveLength(2);
  });

  test('global declarations are one by name, and must be alike', () => {
    const { engine, registry } = fresh();
    const [a, b] = [table('flows', { global: true }), table('flows', { global: true })];
    const hold = registry.hold([claim(a, 'acl', 'acl'), claim(b, 'lb', 'lb')]);
    expect(engine.openNames).toEqual(['flows']);
    expect(registry.handle(a)).toBe(registry.handle(b));
    const differing = hash({ name: 'flows', key: u32, value: struct({ packets: u64, real: u16 }), maxEntries: 9, global: true });
    let caught: unknown;
    try {
      registry.hold([claim(differing, 'nat', 'nat')]);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(ConflictError);
    expect(caught).toMatchObject({
      code: 'conflict',
      message: "global map 'flows' of 'acl' and 'nat': value is u64 and { packets: u64, real: u16 }, maxEntries is 8 and 9",
      hint: 'declare it once and import it',
    });
    hold[Symbol.dispose]();
    expect(engine.openNames).toEqual([]);
  });

  test('all maps of a hold, or none', () => {
    const { engine, registry } = fresh();
    engine.failAt = 2;
    expect(() => registry.hold([claim(table('a')), claim(table('b')), claim(table('c'))])).toThrow('told to fail at map edge/c');
    expect(engine.openNames).toEqual([]);
  });
});

describe('handles', () => {
  const open = <M extends AnyMap>(map: M): EngineMapRegistry => {
    const { registry } = fresh();
    registry.hold([claim(map)]);
    return registry;
  };

  test('many keys are deleted at once, or none', () => {
    const map = table('m');
    const handle = open(map).handle(map);
    handle.setMany([1, 2, 3].map((key) => [key, 1n] as const));
    expect(() => handle.deleteMany([1, -1])).toThrow("key of 'm': expected 0..4294967295, got -1");
    expect(handle.deleteMany([])).toBe(0);
    expect(handle.deleteMany([1, 9, 3])).toBe(2);
    expect(handle.getAll()).toEqual([[2, 1n]]);
  });

  test('keyed maps', () => {
    const map = hash({
      name: 'm',
      key: struct({ a: u16, b: u32 }),
      value: struct({ n: i32, on: bool, list: array(u16, 2) }),
      maxEntries: 8,
    });
    const handle = open(map).handle(map);
    const [one, two] = [
      { n: -1, on: true, list: [1, 2] },
      { n: 2, on: false, list: [3, 4] },
    ];
    handle.set({ a: 1, b: 2 }, one);
    handle.setMany([[{ a: 3, b: 4 }, two]]);
    handle.setMany([]);
    expect(handle.get({ a: 1, b: 2 })).toEqual(one);
    expect(handle.get({ a: 9, b: 9 })).toBeUndefined();
    expect(handle.size).toBe(2);
    expect(handle.getAll()).toEqual([...handle.entries()]);
    expect(new Set(handle.getAll())).toEqual(
      new Set([
        [{ a: 1, b: 2 }, one],
        [{ a: 3, b: 4 }, two],
      ]),
    );
    expect(() => handle.set({ a: 1, b: 2 }, one, 'noexist')).toThrow('EEXIST');
    expect(() => handle.set({ a: 1, b: 2 }, { ...one, n: 2 ** 31 })).toThrow(
      "value of 'm'.n: expected -2147483648..2147483647, got 2147483648",
    );
    expect(handle.delete({ a: 1, b: 2 })).toBe(true);
    expect(
      handle.deleteMany([
        { a: 1, b: 2 },
        { a: 3, b: 4 },
      ]),
    ).toBe(1);
    expect(handle.size).toBe(0);
  });

  test('whatever goes in comes out', () => {
    const map = hash({ name: 'm', key: u32, value: struct({ a: u64, b: i32, c: bool }), maxEntries: 1000 });
    const entry = fc.tuple(fc.nat(0xffff_ffff), fc.record({ a: fc.bigInt(0n, 2n ** 64n - 1n), b: fc.integer(), c: fc.boolean() }));
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
        const handle = open(map).handle(map);
        handle.setMany(entries);
        expect(new Map(handle.getAll())).toEqual(new Map(entries));
      }),
      { numRuns: 50 },
    );
  });

  test('arrays', () => {
    const map = arrayMap({ name: 'm', value: u32, maxEntries: 3 });
    const handle = open(map).handle(map);
    handle.set(1, 7);
    handle.setMany([[2, 8]]);
    expect(handle.getAll()).toEqual([
      [0, 0],
      [1, 7],
      [2, 8],
    ]);
    expect([...handle.entries()]).toHaveLength(3);
    expect(handle.get(1)).toBe(7);
    expect(handle.get(3)).toBeUndefined();
    expect(handle.size).toBe(3);
  });

  test('one value for each CPU, and their sum', () => {
    const map = perCpuHash({ name: 'm', key: u32, value: struct({ n: u32, seen: bool }), maxEntries: 3 });
    const handle = open(map).handle(map);
    expect(handle.sum(1)).toBeUndefined();
    handle.set(1, [
      { n: 1, seen: false },
      { n: 2, seen: true },
    ]);
    handle.setMany([
      [
        2,
        [
          { n: 3, seen: false },
          { n: 4, seen: false },
        ],
      ],
    ]);
    expect(handle.get(1)).toEqual([
      { n: 1, seen: false },
      { n: 2, seen: true },
    ]);
    expect(handle.sum(1)).toEqual({ n: 3, seen: true });
    expect(handle.getAll()).toHaveLength(2);
    expect(() => handle.set(1, [{ n: 1, seen: false }])).toThrow('map edge/m: 1 values, expected 2, one for each CPU');
    expect(handle.deleteMany([1, 2, 3])).toBe(2);
    const counters = perCpuArray({ name: 'c', value: u64, maxEntries: 2 });
    const indexed = open(counters).handle(counters);
    indexed.set(0, [1n, 2n]);
    indexed.setMany([[1, [3n, 4n]]]);
    expect([indexed.get(0), indexed.sum(0), indexed.sum(2), indexed.size]).toEqual([[1n, 2n], 3n, undefined, 2]);
    expect(indexed.getAll()).toEqual([
      [0, [1n, 2n]],
      [1, [3n, 4n]],
    ]);
    const lru = lruPerCpuHash({ name: 'l', key: u32, value: u16, maxEntries: 2 });
    const flows = open(lru).handle(lru);
    flows.set(5, [1, 2]);
    expect([flows.sum(5), flows.size, flows.delete(5), [...flows.entries()]]).toEqual([3, 1, true, []]);
  });

  test('devmaps hold interfaces, program arrays programs', async () => {
    const ports = devmap({ name: 'ports', maxEntries: 4 });
    const handle = open(ports).handle(ports);
    handle.set(1, 3);
    expect(handle.getAll()).toEqual([[1, 3]]);
    const slots = programArray({ name: 'slots', maxEntries: 4 });
    const { engine, registry } = fresh();
    registry.hold([claim(slots)]);
    const program = await engine.loadProgram(fakeCompiler.compileRoot({ name: 'p', array: 'a' }), new Map());
    await registry.handle(slots).set(2, program);
    await registry.handle(slots).clear(2);
    expect(engine.log.slice(-2)).toEqual(['slot edge/slots[2] = p', 'clear edge/slots[2]']);
  });

  test('queues, stacks and bloom filters', () => {
    const [jobs, undo] = [queue({ name: 'q', value: u16, maxEntries: 2 }), stack({ name: 's', value: u16, maxEntries: 2 })];
    for (const [map, order] of [
      [jobs, [2, 3]],
      [undo, [3, 2]],
    ] as const) {
      const handle = open(map as AnyMap).handle(map as typeof jobs);
      expect([handle.pop(), handle.peek()]).toEqual([undefined, undefined]);
      handle.push(1);
      handle.push(2);
      expect(() => handle.push(3)).toThrow('E2BIG');
      handle.push(3, 'exist');
      expect(handle.peek()).toBe(order[0]);
      expect([handle.pop(), handle.pop(), handle.pop()]).toEqual([...order, undefined]);
    }
    const seen = bloomFilter({ name: 'f', value: struct({ a: u16, b: u32 }), maxEntries: 8 });
    const filter = open(seen).handle(seen);
    filter.add({ a: 1, b: 2 });
    expect([filter.has({ a: 1, b: 2 }), filter.has({ a: 2, b: 2 })]).toEqual([true, false]);
    expect(() => filter.has({ a: 70_000, b: 2 })).toThrow("value of 'f'.a: expected 0..65535, got 70000");
  });

  test('maps of maps make their inner maps, find them again, and close them', async () => {
    const { engine, registry } = fresh();
    const tenants = hashOfMaps({ name: 'tenants', key: u16, maxEntries: 4, inner: table('flows') });
    const hold = registry.hold([claim(tenants)]);
    const handle = registry.handle(tenants);
    const first = await handle.set(1);
    first.set(7, 7n);
    expect([handle.get(1), handle.get(2), handle.keys(), handle.size]).toEqual([first, undefined, [1], 1]);
    const other = handle.create();
    expect(await handle.set(1, other)).toBe(other);
    expect(handle.get(1)).toBe(other);
    expect(engine.openNames).toEqual(['edge/tenants', 'edge/tenants.flows', 'edge/tenants.flows']);
    first.close();
    await expect(handle.set(2, first)).rejects.toThrow("map edge/tenants: the inner map is closed or another's");
    expect([await handle.delete(1), await handle.delete(1)]).toEqual([true, false]);
    // What fails leaves no fresh map behind.
    engine.failAt = engine.steps + 1;
    await expect(handle.set(3)).rejects.toThrow('told to fail at inner edge/tenants = edge/tenants.flows');
    expect(engine.openNames).toEqual(['edge/tenants', 'edge/tenants.flows']);
    hold[Symbol.dispose]();
    expect(engine.openNames).toEqual([]);
  });

  test('sockets go in as descriptors and come out as cookies; AF_XDP sockets only go in', () => {
    const table = sockhash({ name: 's', key: u16, maxEntries: 4 });
    const handle = open(table).handle(table);
    handle.set(1, 33);
    expect([handle.cookie(1), handle.cookie(2), handle.keys(), handle.size]).toEqual([33n, undefined, [1], 1]);
    expect([handle.delete(1), handle.delete(1)]).toEqual([true, false]);
    const queues = xskmap({ name: 'x', maxEntries: 4 });
    const slots = open(queues).handle(queues);
    slots.set(1, 33);
    expect(slots.delete(1)).toBeUndefined();
    expect(() => slots.set(1, -1)).toThrow("descriptor of 'x': expected 0..4294967295, got -1");
  });

  test('structures get the handles of their maps, once', () => {
    const [keys, values] = [table('keys'), table('values')];
    const structure = defineStructure({
      name: 's',
      maps: { keys, values },
      fns: {},
      handle: ({ keys, values }) => ({
        put(key: number) {
          keys.set(key, 1n);
          values.set(key, 2n);
        },
      }),
    });
    const { registry } = fresh();
    const hold = registry.hold([claim(keys), claim(values)]);
    const handle = registry.handle(structure);
    handle.put(3);
    expect([registry.handle(keys).get(3), registry.handle(values).get(3)]).toEqual([1n, 2n]);
    expect(registry.handle(structure)).toBe(handle);
    hold[Symbol.dispose]();
    registry.hold([claim(keys), claim(values)]);
    expect(registry.handle(structure)).not.toBe(handle);
  });
});
