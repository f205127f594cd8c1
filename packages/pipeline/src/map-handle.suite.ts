/** Every kind of map on an engine through its typed handle, held to a naive model by random sequences of operations. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import {
  type AnyMap,
  ArgumentError,
  arrayMap,
  bloomFilter,
  cpumap,
  devmap,
  devmapHash,
  type HandleOf,
  hash,
  ipv4Prefix,
  lpmTrie,
  lruHash,
  lruPerCpuHash,
  type PerCpuHandle,
  type PushFlag,
  perCpuArray,
  perCpuHash,
  queue,
  stack,
  struct,
  sumValues,
  u32,
  u64,
} from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkKeyed, errnoOf, type Keyed, type KeyedKind, stepsOf } from './keyed-model.ts';
import { EngineMapRegistry } from './registry.ts';

/** The cases, on an engine. */
export function mapHandleSuite(blueprint: Engine): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  /** Gives the handle of a fresh map to `body`. */
  function withMap<M extends AnyMap, T>(map: M, body: (handle: HandleOf<M>) => T): T {
    const registry = new EngineMapRegistry(engine);
    using _hold = registry.hold([{ map, scope: 'model', user: 'model' }]);
    return body(registry.handle(map) as HandleOf<M>);
  }

  function holds<K, V>(map: AnyMap, kind: KeyedKind<K, V>): void {
    fc.assert(
      fc.property(stepsOf(kind), (steps) => withMap(map, (handle) => checkKeyed(handle as Keyed<K, V>, kind, steps))),
      { numRuns: 60 },
    );
  }

  const Value = struct({ a: u32, b: u64 });
  const value = fc.record({ a: fc.nat(0xffff_ffff), b: fc.bigInt(0n, 2n ** 64n - 1n) });
  /** Keys that meet often; maps have less room than there are keys, or more. */
  const roomy = <V>(value: fc.Arbitrary<V>): KeyedKind<number, V> => ({ key: fc.nat(11), value, name: String });
  const small = <V>(value: fc.Arbitrary<V>): KeyedKind<number, V> => ({ ...roomy(value), room: 8 });
  const options = { name: 'm', key: u32, value: Value, maxEntries: 8 };
  /** LRU maps evict before they are full: some of the room waits at a CPU. */
  const wide = { ...options, maxEntries: 2048 };

  describe('maps with keys', () => {
    test('hash', () => holds(hash(options), small(value)));
    test('hash without preallocation', () => holds(hash({ ...options, noPrealloc: true }), small(value)));
    test('hash with keys that have padding', () => {
      const key = fc.record({ a: fc.nat(3), b: fc.bigInt(0n, 3n) });
      holds(hash({ ...options, key: Value }), { key, value, name: ({ a, b }) => `${a} ${b}`, room: 8 });
    });
    test('LRU hash with room', () => holds(lruHash(wide), roomy(value)));
    test('interfaces under numbers', () => {
      holds(devmapHash({ name: 'm', maxEntries: 8 }), small(fc.constant(1)));
    });
    test('interfaces by index', () => {
      holds(devmap({ name: 'm', maxEntries: 12 }), roomy(fc.constant(1)));
    });
    test('CPUs', () => {
      holds(cpumap({ name: 'm', maxEntries: engine.cpus }), {
        key: fc.nat(engine.cpus - 1),
        value: fc.record({ qsize: fc.integer({ min: 1, max: 64 }) }),
        name: String,
      });
    });

    test('longest prefixes', () => {
      interface Prefix {
        readonly prefixLen: number;
        readonly addr: number;
      }
      const bits = ({ prefixLen, addr }: Prefix): string => addr.toString(2).padStart(32, '0').slice(0, prefixLen);
      holds<Prefix, { a: number; b: bigint }>(lpmTrie({ ...options, key: ipv4Prefix }), {
        // Few bits set, and those at both ends: prefixes that lie in each other.
        key: fc.record({
          prefixLen: fc.constantFrom(0, 1, 2, 8, 24, 31, 32),
          addr: fc.constantFrom(0, 1, 2, 0x4000_0000, 0x8000_0000, 0xffff_ffff),
        }),
        value,
        name: bits,
        room: 8,
        find(model, key) {
          const fitting = [...model].filter(([prefix]) => bits(key).startsWith(prefix)).sort(([a], [b]) => b.length - a.length);
          return fitting[0]?.[1][1];
        },
      });
    });
  });

  describe('maps with a value for each CPU', () => {
    const each = (): fc.Arbitrary<{ a: number; b: bigint }[]> => fc.array(value, { minLength: engine.cpus, maxLength: engine.cpus });

    test('hash', () => holds(perCpuHash(options), small(each())));
    test('hash without preallocation', () => holds(perCpuHash({ ...options, noPrealloc: true }), small(each())));
    test('LRU hash with room', () => holds(lruPerCpuHash(wide), roomy(each())));

    test('sums', () => {
      const check = (handle: PerCpuHandle<number, { a: number; b: bigint }>, values: { a: number; b: bigint }[]): void => {
        handle.set(3, values);
        expect(handle.sum(3)).toEqual(sumValues(Value, values));
        expect(handle.sum(3)?.b).toBe(values.reduce((sum, { b }) => sum + b, 0n));
        expect(handle.sum(4)).toBeUndefined();
        expect(errnoOf(() => handle.set(3, values.slice(1)))).toContain(`${engine.cpus - 1} values, expected ${engine.cpus}`);
      };
      fc.assert(
        fc.property(each(), (values) => {
          for (const map of [perCpuHash(options), lruPerCpuHash(wide)]) withMap(map, (handle) => check(handle, values));
        }),
        { numRuns: 30 },
      );
    });
  });

  describe('arrays', () => {
    /** All entries are there from the start; writes beyond the end fail. */
    function checkArray<V>(map: AnyMap, one: fc.Arbitrary<V>, empty: V): void {
      interface Handle {
        get(index: number): V | undefined;
        set(index: number, value: V): void;
        setMany(entries: readonly (readonly [number, V])[]): void;
        getAll(): [number, V][];
        entries(): Iterable<[number, V]>;
        readonly size: number;
      }
      const index = fc.nat(9);
      const step = fc.oneof(fc.record({ index, value: one }), fc.record({ entries: fc.array(fc.tuple(fc.nat(7), one), { maxLength: 6 }) }));
      fc.assert(
        fc.property(fc.array(step, { maxLength: 20 }), (steps) =>
          withMap(map, (opened) => {
            const handle = opened as unknown as Handle;
            const model = Array.from({ length: 8 }, () => empty);
            for (const step of steps) {
              if ('entries' in step) {
                handle.setMany(step.entries);
                for (const [at, entry] of step.entries) model[at] = entry;
              } else {
                expect(errnoOf(() => handle.set(step.index, step.value))).toBe(step.index < 8 ? undefined : 'E2BIG');
                if (step.index < 8) model[step.index] = step.value;
              }
              expect(handle.getAll()).toEqual(model.map((entry, at) => [at, entry]));
              expect([...handle.entries()]).toEqual(handle.getAll());
              expect(handle.size).toBe(8);
              for (let at = 0; at < 10; at++) expect(handle.get(at)).toEqual(model[at]);
            }
          }),
        ),
        { numRuns: 60 },
      );
    }
    const none = { a: 0, b: 0n };

    test('one value', () => checkArray(arrayMap({ name: 'm', value: Value, maxEntries: 8 }), value, none));
    test('one value on pages of its own', () => {
      checkArray(arrayMap({ name: 'm', value: Value, maxEntries: 8, mmapable: true }), value, none);
    });
    test('a value for each CPU', () => {
      const { cpus } = engine;
      const each = fc.array(value, { minLength: cpus, maxLength: cpus });
      checkArray(
        perCpuArray({ name: 'm', value: Value, maxEntries: 8 }),
        each,
        Array.from({ length: cpus }, () => none),
      );
    });
  });

  describe('maps without keys', () => {
    const push = fc.record({ value, flag: fc.constantFrom<PushFlag>('any', 'exist') });
    const steps = fc.array(fc.oneof({ weight: 3, arbitrary: push }, { weight: 2, arbitrary: fc.constant('pop' as const) }), {
      maxLength: 40,
    });

    test.each([
      ['queue', queue({ name: 'm', value: Value, maxEntries: 4 }), 0],
      ['stack', stack({ name: 'm', value: Value, maxEntries: 4 }), -1],
    ] as const)('%s', (_name, map, next) => {
      fc.assert(
        fc.property(steps, (sequence) =>
          withMap<typeof map, void>(map, (handle) => {
            const model: { a: number; b: bigint }[] = [];
            for (const step of sequence) {
              if (step === 'pop') expect(handle.pop()).toEqual(next === 0 ? model.shift() : model.pop());
              else {
                const isFull = model.length === 4;
                expect(errnoOf(() => handle.push(step.value, step.flag))).toBe(isFull && step.flag === 'any' ? 'E2BIG' : undefined);
                if (isFull && step.flag === 'exist') model.shift();
                if (model.length < 4) model.push(step.value);
              }
              expect(handle.peek()).toEqual(model.at(next));
            }
          }),
        ),
        { numRuns: 100 },
      );
    });

    test('bloom filter: nothing that was added is forgotten, and an empty one has nothing', () => {
      fc.assert(
        fc.property(fc.array(value, { maxLength: 50 }), fc.option(fc.integer({ min: 1, max: 15 })), (values, hashes) =>
          withMap(bloomFilter({ name: 'm', value: Value, maxEntries: 50, ...(hashes === null ? {} : { hashes }) }), (filter) => {
            expect(values.some((one) => filter.has(one))).toBe(false);
            for (const [i, one] of values.entries()) {
              filter.add(one);
              expect(values.slice(0, i + 1).every((known) => filter.has(known))).toBe(true);
            }
          }),
        ),
        { numRuns: 60 },
      );
    });

    test('bloom filter: it claims seldom more than it should, and more often once it is overfull', () => {
      withMap(bloomFilter({ name: 'm', value: u32, maxEntries: 1000 }), (filter) => {
        const wrong = (): number => Array.from({ length: 1000 }, (_, i) => filter.has(1_000_000 + i)).filter(Boolean).length;
        for (let i = 0; i < 1000; i++) filter.add(i);
        expect(wrong()).toBeLessThan(120);
        for (let i = 1000; i < 20_000; i++) filter.add(i);
        expect(wrong()).toBeGreaterThan(500);
      });
    });
  });

  describe('maps that are full', () => {
    test('LRU maps evict and never refuse', () => {
      for (const map of [lruHash({ ...options, maxEntries: 1024 }), lruPerCpuHash({ ...options, maxEntries: 1024 })])
        withMap(map as AnyMap, (opened) => {
          const handle = opened as Keyed<number, unknown>;
          const entry = map.type === 'lruHash' ? { a: 1, b: 2n } : Array.from({ length: engine.cpus }, () => ({ a: 1, b: 2n }));
          for (let key = 0; key < 20_000; key++) handle.set(key, entry);
          expect(handle.size).toBeLessThanOrEqual(1024);
          expect(handle.size).toBeGreaterThan(500);
          const keys = handle.getAll().map(([key]) => key);
          expect(new Set(keys).size).toBe(keys.length);
          handle.setMany(Array.from({ length: 5000 }, (_, key) => [key, entry] as const));
          expect(handle.size).toBeLessThanOrEqual(1024);
        });
    });

    test('a prefix that is too long is refused, and found nowhere', () => {
      withMap(lpmTrie({ ...options, key: ipv4Prefix }), (trie) => {
        trie.set({ prefixLen: 0, addr: 0 }, { a: 1, b: 1n });
        expect(errnoOf(() => trie.set({ prefixLen: 33, addr: 0 }, { a: 1, b: 1n }))).toBe('EINVAL');
        expect(trie.get({ prefixLen: 33, addr: 0 })).toBeUndefined();
      });
    });
  });

  test('values that a schema cannot hold are refused before the engine is asked, and nothing is half done', () => {
    withMap(hash(options), (handle) => {
      expect(() => handle.set(2 ** 32, { a: 1, b: 1n })).toThrow(new ArgumentError("key of 'm': expected 0..4294967295, got 4294967296"));
      expect(() => handle.set(1, { a: -1, b: 1n })).toThrow(new ArgumentError("value of 'm'.a: expected 0..4294967295, got -1"));
      handle.set(1, { a: 1, b: 1n });
      expect(() => handle.deleteMany([1, -1])).toThrow(ArgumentError);
      expect(() =>
        handle.setMany([
          [2, { a: 1, b: 1n }],
          [3, { a: 1, b: -1n }],
        ]),
      ).toThrow(ArgumentError);
      expect(handle.getAll()).toEqual([[1, { a: 1, b: 1n }]]);
    });
    withMap(queue({ name: 'q', value: u32, maxEntries: 1 }), (handle) => {
      expect(() => handle.push(-1)).toThrow(new ArgumentError("value of 'q': expected 0..4294967295, got -1"));
    });
    withMap(bloomFilter({ name: 'f', value: u32, maxEntries: 1 }), (handle) => {
      expect(() => handle.has(1.5)).toThrow(ArgumentError);
    });
  });
}
