import { stage, u32, u64 } from '@tailrace/stage';
import { packet, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FlowCache, flowCache } from './flow-cache.ts';
import { mix, unmix } from './mix.ts';

const WAYS = 8;
const mixed = (key: bigint): bigint => mix.body(...([key, mix.uses] as never)) as bigint;

/** What the cache should do, said naively: lists of flows, newest first. */
class Model {
  readonly #near: Level;
  readonly #far: Level;
  readonly #shards: number;

  constructor(nearBits: number, farBits: number, shards: number) {
    this.#near = new Level(nearBits);
    this.#far = new Level(farBits);
    this.#shards = shards;
  }

  find(key: bigint, cpu: number): number {
    const near = this.#near.bucket(key, cpu % this.#shards);
    const way = near.findIndex((entry) => entry.key === key);
    const found = near[way];
    if (found) {
      const younger = near[way - WAYS / 2];
      if (younger) {
        near[way] = younger;
        near[way - WAYS / 2] = found;
      }
      return found.value;
    }
    const known = this.#far.bucket(key, 0).find((entry) => entry.key === key);
    if (known) this.#near.insert(key, known.value, cpu % this.#shards);
    return known?.value ?? 0;
  }

  insert(key: bigint, value: number, cpu: number): void {
    this.#near.insert(key, value, cpu % this.#shards);
    this.#far.insert(key, value, 0);
  }

  flows(): { key: bigint; value: number }[] {
    return this.#far.all();
  }
}

class Level {
  readonly #bits: number;
  readonly #buckets = new Map<string, { key: bigint; value: number }[]>();

  constructor(bits: number) {
    this.#bits = bits;
  }

  bucket(key: bigint, shard: number) {
    const name = `${shard} ${mixed(key) >> BigInt(64 - this.#bits)}`;
    const bucket = this.#buckets.get(name) ?? [];
    this.#buckets.set(name, bucket);
    return bucket;
  }

  insert(key: bigint, value: number, shard: number): void {
    const bucket = this.bucket(key, shard);
    const at = bucket.findIndex((entry) => entry.key === key);
    if (at >= 0) bucket.splice(at, 1);
    bucket.unshift({ key, value });
    bucket.length = Math.min(bucket.length, WAYS);
  }

  all() {
    return [...this.#buckets.values()].flat();
  }
}

/** Runs the cache's fns as a stage would. */
class Subject {
  readonly #maps = new SimulatedMaps();
  readonly #cache: FlowCache;
  readonly #find;
  readonly #insert;

  constructor(cache: FlowCache) {
    this.#cache = cache;
    this.#find = stage({
      name: 'find',
      hook: 'xdp',
      uses: { cache },
      reads: { key: u64 },
      writes: { value: u32 },
      program(ctx, { cache }) {
        ctx.meta.value = cache.find(ctx.meta.key, ctx.cpu());
        return ctx.next();
      },
    });
    this.#insert = stage({
      name: 'insert',
      hook: 'xdp',
      uses: { cache },
      reads: { key: u64, value: u32 },
      program(ctx, { cache }) {
        cache.insert(ctx.meta.key, ctx.meta.value, ctx.cpu());
        return ctx.next();
      },
    });
  }

  find(key: bigint, cpu = 0): number {
    return simulate(this.#find, frame, { maps: this.#maps, meta: { key }, cpu }).meta.value as number;
  }

  insert(key: bigint, value: number, cpu = 0): void {
    simulate(this.#insert, frame, { maps: this.#maps, meta: { key, value }, cpu });
  }

  get handle() {
    return simulatedHandle(this.#maps, this.#cache);
  }
}

const frame = packet().payload('').bytes();
const small = () => new Subject(flowCache({ name: 'flows', perCpu: 128, flows: 256, shards: 2 }));

describe('mix', () => {
  it('can be undone', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (key) => unmix(mixed(key)) === key),
      { numRuns: 500 },
    );
  });
});

describe('flowCache', () => {
  it('finds on every CPU what was stored on one', () => {
    const cache = small();
    cache.insert(7n, 3, 0);
    expect([0, 1, 2, 3].map((cpu) => cache.find(7n, cpu))).toEqual([3, 3, 3, 3]);
    expect(cache.find(8n)).toBe(0);
  });

  it('keeps the last value', () => {
    const cache = small();
    cache.insert(7n, 3);
    cache.insert(7n, 4);
    expect(cache.find(7n)).toBe(4);
    expect([...cache.handle.flows()]).toEqual([{ key: 7n, value: 4 }]);
  });

  it('stores no value that it cannot hold', () => {
    const cache = small();
    expect(cache.handle.maxValue).toBe(15);
    cache.insert(7n, 16);
    cache.insert(7n, 0);
    expect(cache.find(7n)).toBe(0);
    cache.insert(7n, 15);
    expect(cache.find(7n)).toBe(15);
  });

  it('does what the model does', () => {
    const key = fc.integer({ min: 0, max: 400 }).map((n) => BigInt(n) * 0x1_0000_0001n);
    const step = fc.record({ key, cpu: fc.integer({ min: 0, max: 3 }), value: fc.option(fc.integer({ min: 1, max: 15 }), { freq: 2 }) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 200, maxLength: 600, size: 'max' }), (steps) => {
        const [cache, model] = [small(), new Model(4, 5, 2)];
        for (const { key, cpu, value } of steps)
          if (value === null) expect(cache.find(key, cpu)).toBe(model.find(key, cpu));
          else {
            cache.insert(key, value, cpu);
            model.insert(key, value, cpu);
          }
        const byKey = (a: { key: bigint }, b: { key: bigint }) => (a.key < b.key ? -1 : 1);
        expect([...cache.handle.flows()].sort(byKey)).toEqual(model.flows().sort(byKey));
        expect(cache.handle.size).toBe(model.flows().length);
      }),
      // a failure shows as it is found: to shrink it would take minutes
      { numRuns: 6, endOnFailure: true },
    );
  });

  it('leaves a bucket as it is that it searches for a key without rest', () => {
    expect(mixed(0n)).toBe(0n);
    const others = Array.from({ length: 4000 }, (_, i) => BigInt(i + 1)).filter((key) => mixed(key) >> 60n === 0n);
    const own = others.slice(0, WAYS + 1);
    const cache = small();
    for (const [i, key] of own.entries()) {
      cache.insert(key, 1, 0);
      if (i === WAYS / 2 - 1) expect(cache.find(0n, 0)).toBe(0);
    }
    // another CPU stores other values: what CPU 0 still has of its own are the old ones, and only the oldest is gone
    for (const key of own) cache.insert(key, 2, 1);
    expect(own.slice(1).map((key) => cache.find(key, 0))).toEqual(own.slice(1).map(() => 1));
    expect(cache.find(own[0] ?? 0n, 0)).toBe(2);
  });

  it('keeps a flow that is in use while others come and go', () => {
    const cache = small();
    const bucket = mixed(1n) >> 60n;
    const rivals = Array.from({ length: 4000 }, (_, i) => BigInt(i + 2)).filter((key) => mixed(key) >> 60n === bucket);
    cache.insert(1n, 9);
    for (const rival of rivals) {
      cache.insert(rival, 1);
      expect(cache.find(1n)).toBe(9);
    }
    expect(rivals.length).toBeGreaterThan(100);
  });

  it('forgets flows by value, and all', () => {
    const cache = small();
    for (let key = 0n; key < 60n; key++) cache.insert(key, Number(key % 3n) + 1);
    const before = [...cache.handle.flows()].filter(({ value }) => value === 2).length;
    expect(cache.handle.forget(({ value }) => value === 2)).toBeGreaterThanOrEqual(before);
    for (let key = 0n; key < 60n; key++) expect(cache.find(key)).not.toBe(2);
    expect(cache.handle.size).toBeGreaterThan(30);
    cache.handle.forget(({ key }) => key < 30n);
    for (let key = 0n; key < 60n; key++) expect(cache.find(key)).toBe(key < 30n || key % 3n === 1n ? 0 : Number(key % 3n) + 1);
    cache.handle.clear();
    for (let key = 0n; key < 60n; key++) expect(cache.find(key)).toBe(0);
  });

  it('refuses sizes that no cache can have', () => {
    const said = (options: Partial<Parameters<typeof flowCache>[0]>): string => {
      try {
        flowCache({ name: 'c', ...options });
      } catch (error) {
        return String(error);
      }
      return 'nothing';
    };
    expect([said({ perCpu: 64 }), said({ flows: 1024 }), said({ shards: 3 }), said({ flows: 2 ** 28 })]).toMatchInlineSnapshot(`
      [
        "ArgumentError: flowCache 'c': perCpu is 64, expected 128..134217728",
        "ArgumentError: flowCache 'c': flows is 1024, expected at least perCpu, 131072",
        "ArgumentError: flowCache 'c': shards is 3, expected a power of two of at most 1024",
        "ArgumentError: flowCache 'c': flows is 268435456, expected 128..134217728",
      ]
    `);
  });
});
