/** Walks over a map in memory that starts over where a key is gone, as the kernel's do, and changes between any two calls. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nameOf, walk } from './map-walk.ts';

/** Keys in an order of their own; asking for what follows a key that is gone gives the first. */
class Restless {
  readonly spec = { name: 'restless', maxEntries: 64 };
  calls = 0;
  keys: number[];
  readonly #change: (keys: number[]) => number[];

  constructor(keys: readonly number[], change: (keys: number[]) => number[] = (same) => same) {
    this.keys = [...keys];
    this.#change = change;
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    this.#next();
    return this.keys.includes(key[0] ?? -1) ? key.slice() : undefined;
  }

  nextKey(key?: Uint8Array): Uint8Array | undefined {
    this.#next();
    // A key that is gone is at -1, as no key is.
    const next = this.keys[(key === undefined ? -1 : this.keys.indexOf(key[0] ?? -1)) + 1];
    return next === undefined ? undefined : Uint8Array.of(next);
  }

  #next(): void {
    this.calls += 1;
    this.keys = this.#change(this.keys);
  }
}

const read = (map: Restless, met: readonly number[] = []): number[] =>
  [
    ...walk(
      map,
      met.map((key) => Uint8Array.of(key)),
    ),
  ].map(([key]) => key[0] ?? -1);

test('a map at rest: each key once, in its order, with one call for each and one lookup', () => {
  const map = new Restless([5, 3, 9]);
  expect(read(map)).toEqual([5, 3, 9]);
  expect(map.calls).toBe(7);
  expect(read(new Restless([]))).toEqual([]);
});

test('keys that were met are not given again', () => {
  expect(read(new Restless([5, 3, 9, 1]), [5, 3])).toEqual([9, 1]);
  expect(read(new Restless([5, 9, 1]), [5, 3])).toEqual([9, 1]);
  expect(read(new Restless([5]), [5])).toEqual([]);
});

describe('while keys come and go', () => {
  const staying = fc.uniqueArray(fc.nat(99), { minLength: 1, maxLength: 30 });
  const steps = fc.infiniteStream(fc.record({ key: fc.integer({ min: 100, max: 130 }), add: fc.boolean(), at: fc.nat(), now: fc.nat(2) }));

  /** Puts passing keys in and takes them out; `at` says where a new one goes. */
  const churn = (
    stream: Iterator<{ key: number; add: boolean; at: number; now: number }>,
    place: (at: number, keys: number[]) => number,
  ) => {
    return (keys: number[]): number[] => {
      const { value } = stream.next();
      if (value.now > 0) return keys;
      const rest = keys.filter((key) => key !== value.key);
      return value.add ? rest.toSpliced(place(value.at, rest), 0, value.key) : rest;
    };
  };
  const check = (keys: readonly number[], map: Restless): void => {
    const seen = read(map);
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.filter((key) => key < 100)).toEqual(keys);
  };

  test('new keys at the front, as in a bucket of a hash: all that stay are read, none twice', () => {
    fc.assert(
      fc.property(staying, steps, (keys, stream) =>
        check(
          keys,
          new Restless(
            keys,
            churn(stream, () => 0),
          ),
        ),
      ),
      { numRuns: 500 },
    );
  });

  test('keys in a total order, as in a trie', () => {
    fc.assert(
      fc.property(staying, steps, fc.nat(), (unsorted, stream, salt) => {
        // Staying and passing keys are mixed by an order that has nothing to do with their numbers.
        const rank = (key: number): number => Math.imul(key + 1, (salt | 1) >>> 0) >>> 0;
        const keys = unsorted.toSorted((a, b) => rank(a) - rank(b));
        const map = new Restless(keys, (now) => churn(stream, () => 0)(now).toSorted((a, b) => rank(a) - rank(b)));
        check(keys, map);
      }),
      { numRuns: 500 },
    );
  });

  test('all keys go while they are read', () => {
    let left = 3;
    expect(read(new Restless([1, 2, 3, 4, 5], (keys) => (--left > 0 ? keys : [])))).toEqual([1]);
  });

  test('a map whose keys are always others ends in an error that says so', () => {
    let fresh = 0;
    const target = { spec: { name: 'flood', maxEntries: 64 }, lookup: () => undefined };
    const others = { ...target, nextKey: () => new Uint8Array(Uint16Array.of(fresh++).buffer) };
    // Two keys that replace each other: what follows the one that is there is always the one that was.
    const same = { ...target, nextKey: (key?: Uint8Array) => Uint8Array.of(key?.[0] === 1 ? 2 : 1) };
    for (const map of [others, same])
      expect(() => [...walk(map)]).toThrow(
        expect.objectContaining({ code: 'conflict', message: 'map flood: keys come and go faster than they can be read' }),
      );
    expect(fresh).toBeLessThan(10_000);
  });
});

test('names tell keys apart by all their bytes', () => {
  expect(nameOf(Uint8Array.of(1, 200))).not.toBe(nameOf(Uint8Array.of(1, 201)));
  expect(nameOf(Uint8Array.of(9, 1, 2).subarray(1))).toBe(nameOf(Uint8Array.of(1, 2)));
});
