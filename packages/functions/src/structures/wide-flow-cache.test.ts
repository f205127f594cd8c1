import { type FnDecl, stage, u32, u64 } from '@tailrace/stage';
import { packet, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digested, type WideKey } from './mix.ts';
import { wideFlowCache } from './wide-flow-cache.ts';

const WAYS = 8;
const BITS = 4n;
const frame = packet().payload('').bytes();
const same = (a: WideKey, b: WideKey): boolean => a.hi === b.hi && a.lo === b.lo && a.low === b.low;
const bucketOf = (key: WideKey): bigint => digested(key) >> (64n - BITS);
/** What a tag holds beside the value: a key that shares it replaces the other. */
const tagOf = (key: WideKey): string => `${(digested(key) >> 32n) & 0xffffn} ${key.low}`;

function setUp() {
  const cache = wideFlowCache({ name: 'flows', flows: 128 });
  const maps = new SimulatedMaps();
  const uses = { cache };
  const reads = { hi: u64, lo: u64, low: u64 };
  const finder = stage({
    name: 'find',
    hook: 'xdp',
    uses,
    reads,
    writes: { value: u32 },
    program(ctx, { cache }) {
      ctx.meta.value = cache.find(ctx.meta.hi, ctx.meta.lo, ctx.meta.low);
      return ctx.next();
    },
  });
  const inserter = stage({
    name: 'insert',
    hook: 'xdp',
    uses,
    reads: { ...reads, value: u32 },
    program(ctx, { cache }) {
      cache.insert(ctx.meta.hi, ctx.meta.lo, ctx.meta.low, ctx.meta.value);
      return ctx.next();
    },
  });
  return {
    find: (key: WideKey) => simulate(finder, frame, { maps, meta: { ...key } }).meta.value as number,
    insert: (key: WideKey, value: number) => void simulate(inserter, frame, { maps, meta: { ...key, value } }),
    handle: simulatedHandle(maps, cache),
  };
}

/** What the cache should do, said naively: lists of flows, newest first. */
class Model {
  readonly #buckets = new Map<bigint, { key: WideKey; value: number }[]>();

  find(key: WideKey): number {
    const bucket = this.#bucket(key);
    const way = bucket.findIndex((entry) => same(entry.key, key));
    const found = bucket[way];
    const younger = bucket[way - WAYS / 2];
    if (found && younger) {
      bucket[way] = younger;
      bucket[way - WAYS / 2] = found;
    }
    return found?.value ?? 0;
  }

  insert(key: WideKey, value: number): void {
    const bucket = this.#bucket(key);
    const at = bucket.findIndex((entry) => tagOf(entry.key) === tagOf(key));
    if (at >= 0) bucket.splice(at, 1);
    bucket.unshift({ key, value });
    bucket.length = Math.min(bucket.length, WAYS);
  }

  flows() {
    return [...this.#buckets.values()].flat();
  }

  #bucket(key: WideKey) {
    const bucket = this.#buckets.get(bucketOf(key)) ?? [];
    this.#buckets.set(bucketOf(key), bucket);
    return bucket;
  }
}

const keyOf = (n: number): WideKey => ({ hi: BigInt(n % 3), lo: BigInt(n) * 0x1_0000_0001n, low: BigInt(n % 7) << 16n });
const byKey = (a: { key: WideKey }, b: { key: WideKey }): number => (digested(a.key) < digested(b.key) ? -1 : 1);

describe('wideFlowCache', () => {
  it('does what the model does', () => {
    const step = fc.record({ n: fc.integer({ min: 0, max: 250 }), value: fc.option(fc.integer({ min: 1, max: 65_535 }), { freq: 2 }) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 200, maxLength: 500, size: 'max' }), (steps) => {
        const [cache, model] = [setUp(), new Model()];
        for (const { n, value } of steps)
          if (value === null) expect(cache.find(keyOf(n))).toBe(model.find(keyOf(n)));
          else {
            cache.insert(keyOf(n), value);
            model.insert(keyOf(n), value);
          }
        expect([...cache.handle.flows()].sort(byKey)).toEqual(model.flows().sort(byKey));
        expect(cache.handle.size).toBe(model.flows().length);
      }),
      { numRuns: 6, endOnFailure: true },
    );
  });

  it('tells keys apart by every bit', () => {
    const cache = setUp();
    const key = { hi: 0x2001_0db8_0000_0000n, lo: 1n, low: 80n << 16n };
    cache.insert(key, 65_535);
    expect(cache.find(key)).toBe(65_535);
    for (let bit = 0n; bit < 64n; bit++) {
      expect(cache.find({ ...key, hi: key.hi ^ (1n << bit) })).toBe(0);
      expect(cache.find({ ...key, lo: key.lo ^ (1n << bit) })).toBe(0);
      if (bit < 32n) expect(cache.find({ ...key, low: key.low ^ (1n << bit) })).toBe(0);
    }
  });

  it('stores no value that it cannot hold, and finds nothing for a key of zeros in an empty cache', () => {
    const cache = setUp();
    const zero = { hi: 0n, lo: 0n, low: 0n };
    expect(cache.find(zero)).toBe(0);
    cache.insert(zero, 0);
    cache.insert(zero, 65_536);
    expect([cache.find(zero), cache.handle.size, cache.handle.maxValue]).toEqual([0, 0, 65_535]);
    cache.insert(zero, 1);
    expect(cache.find(zero)).toBe(1);
  });

  it('keeps a flow that is in use while others come and go', () => {
    const cache = setUp();
    const rivals = Array.from({ length: 3000 }, (_, n) => keyOf(n + 1)).filter((key) => bucketOf(key) === bucketOf(keyOf(0)));
    cache.insert(keyOf(0), 9);
    for (const rival of rivals) {
      cache.insert(rival, 1);
      expect(cache.find(keyOf(0))).toBe(9);
    }
    expect(rivals.length).toBeGreaterThan(100);
  });

  it('forgets flows by value and by key, and all', () => {
    const cache = setUp();
    for (let n = 0; n < 60; n++) cache.insert(keyOf(n), (n % 3) + 1);
    const before = cache.handle.size;
    const gone = cache.handle.forget(({ value }) => value === 2);
    expect(gone).toBeGreaterThan(10);
    expect(cache.handle.size).toBe(before - gone);
    for (let n = 1; n < 60; n += 3) expect(cache.find(keyOf(n))).toBe(0);
    cache.handle.forget(({ key }) => key.hi === 0n);
    for (let n = 0; n < 60; n += 3) expect(cache.find(keyOf(n))).toBe(0);
    expect(cache.handle.size).toBeGreaterThan(10);
    cache.handle.clear();
    expect(cache.handle.size).toBe(0);
  });

  it('refuses sizes that no cache can have', () => {
    expect(() => wideFlowCache({ name: 'c', flows: 64 })).toThrow("wideFlowCache 'c': flows is 64, expected 128..4194304");
    expect(() => wideFlowCache({ name: 'c', flows: 2 ** 23 })).toThrow('flows is 8388608, expected 128..4194304');
  });
});

/** Entries whose every read and write of a word may be followed by all of another CPU's operation. */
class Interrupted {
  readonly #words = new Map<string, bigint>();
  readonly #pending = new Map<number, () => void>();
  #accesses = 0;

  interrupt(after: number, what: () => void): void {
    this.#pending.set(this.#accesses + after, what);
  }

  lookup(index: number): object {
    const column = (name: string): object =>
      new Proxy(
        {},
        {
          get: (_, way) => {
            const word = this.#words.get(`${index} ${name} ${String(way)}`) ?? 0n;
            this.#step();
            return word;
          },
          set: (_, way, word: bigint) => {
            this.#words.set(`${index} ${name} ${String(way)}`, word);
            this.#step();
            return true;
          },
        },
      );
    return { tags: column('tags'), his: column('his'), los: column('los') };
  }

  #step(): void {
    const now = this.#accesses++;
    const interrupt = this.#pending.get(now);
    this.#pending.delete(now);
    interrupt?.();
  }
}

/** A fn of the cache over such entries. */
function call({ body, uses }: FnDecl, entries: Interrupted): (...args: readonly unknown[]) => unknown {
  const seen = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null || !('kind' in value)) return value;
    return value.kind === 'fn' ? call(value as FnDecl, entries) : { lookup: (index: number) => entries.lookup(index) };
  };
  const bag = uses && Object.fromEntries(Object.entries(uses).map(([name, value]) => [name, seen(value)]));
  return (...args) => (body as (...all: readonly unknown[]) => unknown)(...args, ...(bag ? [bag] : []));
}

describe('CPUs that work on one bucket at once', () => {
  // more keys than a bucket has ways, all of one bucket, with halves in common
  const keys = Array.from({ length: 2000 }, (_, n): WideKey => ({ hi: BigInt(n % 2), lo: BigInt(n >> 1), low: 7n << 16n }))
    .filter((key) => bucketOf(key) === 3n)
    .slice(0, 12);

  it('never find the value of another flow', () => {
    const operation = fc.record({ flow: fc.nat(keys.length - 1), store: fc.boolean(), after: fc.nat(30) });
    let interrupts = 0;
    let hits = 0;
    fc.assert(
      fc.property(fc.array(operation, { minLength: 50, maxLength: 200, size: 'max' }), (operations) => {
        const { find, insert } = wideFlowCache({ name: 'flows', flows: 128 }).fns;
        const entries = new Interrupted();
        const run = ({ flow, store }: (typeof operations)[number]): void => {
          const { hi, lo, low } = keys[flow] as WideKey;
          if (store) call(insert as FnDecl, entries)(hi, lo, low, flow + 1);
          else {
            const found = call(find as FnDecl, entries)(hi, lo, low);
            expect([0, flow + 1]).toContain(found);
            if (found !== 0) hits++;
          }
        };
        for (const [i, operation] of operations.entries()) {
          const next = operations[i + 1];
          if (next)
            entries.interrupt(operation.after, () => {
              interrupts++;
              run(next);
            });
          run(operation);
        }
      }),
      { numRuns: 60 },
    );
    expect(interrupts).toBeGreaterThan(1000);
    expect(hits).toBeGreaterThan(500);
  });
});
