/**
 * A table that the control plane fills and programs only read: keys of 64 bits to small numbers, at the price of one
 * array lookup, where the kernel's hash calls a function for the lookup, another for the hash and compares by bytes.
 *
 * A bucket is a cache line of eight entries, an entry one 64-bit word, as in flow-cache.ts: the key is mixed by a
 * bijection, the upper bits of the result say which bucket, the rest stands in the word beside the value.
 *
 *     mixed key   [ bucket: b bits | rest: 64 - b bits ]
 *     word        [ rest: 64 - b bits | value: b bits ]      0: empty
 *
 * Programs search a bucket from its first word to the first empty one. So that they find what stays while other entries
 * come and go, entries never move, and none has an empty word before it: what is deleted leaves a word of value 0
 * behind, a grave, until it is the last of its bucket or the place is needed. Every change is one map update that writes
 * one word anew, and the graves behind it.
 */
import {
  ArgumentError,
  type ArrayHandle,
  arrayMap,
  defineStructure,
  fn,
  type Infer,
  type Structure,
  struct,
  u32,
  u64,
} from '@tailrace/stage';
import { mix, mixed, unmix } from './mix.ts';

/**
 * Buckets for each entry. A full table has a quarter of an entry in each on average, and that a given bucket should have
 * nine has a chance of 1 in 10^11 (Poisson).
 */
const BUCKETS_PER_ENTRY = 4;
const MIN_BITS = 4;
/** 2^22 buckets are 256 MiB. */
const MAX_BITS = 22;
const bucket = struct({ w0: u64, w1: u64, w2: u64, w3: u64, w4: u64, w5: u64, w6: u64, w7: u64 });
interface Bucket extends Infer<typeof bucket> {}

/** What programs do with an exact-match table. */
export interface ExactTableOps {
  /** The value that the control plane gave `key`, a u64; 0 where it gave none. */
  find(key: bigint): number;
}

/** What controllers do with an exact-match table. Keys are 0..2^64-1; all methods throw ArgumentError for others. */
export interface ExactTableHandle {
  /** The largest value that an entry can hold. */
  readonly maxValue: number;
  /** The key's value, `undefined` where it has none. */
  get(key: bigint): number | undefined;
  /**
   * Gives a key its value, 1..maxValue; programs find the one it had before or the new one. Throws ArgumentError for other
   * values, and where the key's bucket is full.
   */
  set(key: bigint, value: number): void;
  /** True where the key was there. */
  delete(key: bigint): boolean;
  /** All entries in no order that means anything. */
  entries(): Iterable<[key: bigint, value: number]>;
  /** Entries; counting them reads the table. */
  readonly size: number;
  /** Deletes every entry. */
  clear(): void;
}

/** An exact-match table, see `exactTable`. */
export interface ExactTable extends Structure<ExactTableOps, ExactTableHandle> {}

/** Sizes of an exact-match table. */
export interface ExactTableOptions {
  readonly name: string;
  /**
   * Entries that it shall hold, 1..1,048,576; each costs 256 bytes, rounded up to a power of two and at least 1 KiB. More
   * fit as long as no bucket is full.
   */
  readonly entries: number;
  /** The largest value that it shall hold, 1..4,194,303; default what its size allows, at least 15. */
  readonly maxValue?: number;
}

/** Declares an exact-match table. Throws ArgumentError for sizes that no table can have. */
export function exactTable(options: ExactTableOptions): ExactTable {
  const { name, entries, maxValue = 1 } = options;
  const most = 2 ** MAX_BITS;
  if (!Number.isSafeInteger(entries) || entries < 1 || entries > most / BUCKETS_PER_ENTRY)
    throw new ArgumentError(`exactTable '${name}': entries is ${entries}, expected 1..${most / BUCKETS_PER_ENTRY}`);
  if (!Number.isSafeInteger(maxValue) || maxValue < 1 || maxValue >= most)
    throw new ArgumentError(`exactTable '${name}': maxValue is ${maxValue}, expected 1..${most - 1}`);
  const bits = Math.max(MIN_BITS, Math.ceil(Math.log2(entries * BUCKETS_PER_ENTRY)), Math.ceil(Math.log2(maxValue + 1)));
  const buckets = arrayMap({ name: `${name}.buckets`, value: bucket, maxEntries: 2 ** bits, mmapable: true });
  const places = { buckets, mix, bits: BigInt(bits), limit: 1n << BigInt(bits), shift: BigInt(64 - bits) };
  return defineStructure({
    name,
    maps: { buckets },
    fns: {
      find: fn([u64], u32, { ...places, search }, (key, { buckets, mix, bits, limit, shift, search }) => {
        const mixed = mix(key);
        const home = buckets.lookup(Number(mixed >> shift));
        if (!home) return 0;
        return search(home, BigInt.asUintN(64, mixed << bits), limit);
      }),
    },
    handle: ({ buckets }) => new TableHandle(name, buckets, bits),
  });
}

/** The value of the word with this rest, 0 where the first empty word comes before. */
const search = fn([bucket, u64, u64], u32, (bucket, rest, limit) => {
  const w0 = bucket.w0;
  const v0 = w0 ^ rest;
  if (v0 < limit) return Number(v0 & 0xffff_ffffn);
  if (w0 === 0n) return 0;
  const w1 = bucket.w1;
  const v1 = w1 ^ rest;
  if (v1 < limit) return Number(v1 & 0xffff_ffffn);
  if (w1 === 0n) return 0;
  const w2 = bucket.w2;
  const v2 = w2 ^ rest;
  if (v2 < limit) return Number(v2 & 0xffff_ffffn);
  if (w2 === 0n) return 0;
  const w3 = bucket.w3;
  const v3 = w3 ^ rest;
  if (v3 < limit) return Number(v3 & 0xffff_ffffn);
  if (w3 === 0n) return 0;
  const w4 = bucket.w4;
  const v4 = w4 ^ rest;
  if (v4 < limit) return Number(v4 & 0xffff_ffffn);
  if (w4 === 0n) return 0;
  const w5 = bucket.w5;
  const v5 = w5 ^ rest;
  if (v5 < limit) return Number(v5 & 0xffff_ffffn);
  if (w5 === 0n) return 0;
  const w6 = bucket.w6;
  const v6 = w6 ^ rest;
  if (v6 < limit) return Number(v6 & 0xffff_ffffn);
  if (w6 === 0n) return 0;
  const w7 = bucket.w7;
  const v7 = w7 ^ rest;
  if (v7 < limit) return Number(v7 & 0xffff_ffffn);
  return 0;
});

class TableHandle implements ExactTableHandle {
  readonly maxValue: number;
  readonly #name: string;
  readonly #buckets: ArrayHandle<Bucket>;
  /** The table has 2^bits buckets. */
  readonly #bits: bigint;

  constructor(name: string, buckets: ArrayHandle<Bucket>, bits: number) {
    this.#name = name;
    this.#buckets = buckets;
    this.#bits = BigInt(bits);
    this.maxValue = 2 ** bits - 1;
  }

  get(key: bigint): number | undefined {
    const { words, rest } = this.#find(key);
    const found = words.find((word) => word !== 0n && this.#restOf(word) === rest);
    return found === undefined ? undefined : this.#valueOf(found) || undefined;
  }

  set(key: bigint, value: number): void {
    if (!Number.isInteger(value) || value < 1 || value > this.maxValue)
      throw new ArgumentError(`exactTable '${this.#name}': value is ${value}, expected 1..${this.maxValue}`, {
        hint: 'maxValue makes room for larger ones',
      });
    const { index, words, rest } = this.#find(key);
    // its own grave before any other: a search would end there
    const places = [
      words.findIndex((word) => word !== 0n && this.#restOf(word) === rest),
      words.findIndex((word) => word !== 0n && this.#valueOf(word) === 0),
      words.indexOf(0n),
    ];
    const place = places.find((place) => place >= 0);
    if (place === undefined)
      throw new ArgumentError(`exactTable '${this.#name}': no place for key ${key}, its bucket is full`, {
        hint: 'declare the table with more entries',
      });
    this.#buckets.set(index, bucketOf(words.with(place, rest | BigInt(value))));
  }

  delete(key: bigint): boolean {
    const { index, words, rest } = this.#find(key);
    const place = words.findIndex((word) => this.#restOf(word) === rest && this.#valueOf(word) !== 0);
    if (place < 0) return false;
    const left = words.with(place, this.#grave(words, rest));
    const end = left.findLastIndex((word) => this.#valueOf(word) !== 0) + 1;
    this.#buckets.set(index, bucketOf(left.slice(0, end)));
    return true;
  }

  *entries(): Iterable<[key: bigint, value: number]> {
    for (const [index, entries] of this.#buckets.getAll())
      for (const word of wordsOf(entries)) {
        const value = this.#valueOf(word);
        if (value !== 0) yield [unmix((BigInt(index) << (64n - this.#bits)) | (word >> this.#bits)), value];
      }
  }

  get size(): number {
    let size = 0;
    for (const _ of this.entries()) size++;
    return size;
  }

  clear(): void {
    const used = this.#buckets.getAll().filter(([, entries]) => entries.w0 !== 0n);
    if (used.length > 0) this.#buckets.setMany(used.map(([index]) => [index, bucketOf([])]));
  }

  #find(key: bigint): { readonly index: number; readonly words: readonly bigint[]; readonly rest: bigint } {
    if (key < 0n || key >= 1n << 64n)
      throw new ArgumentError(`exactTable '${this.#name}': key is ${key}, expected 0..18446744073709551615`);
    const all = mixed(key);
    const index = Number(all >> (64n - this.#bits));
    const entries = this.#buckets.get(index);
    return { index, words: entries ? wordsOf(entries) : [], rest: BigInt.asUintN(64, all << this.#bits) };
  }

  /** A word of value 0 at which no search for an entry ends: with the rest of what is deleted or, where that is 0, nobody's. */
  #grave(words: readonly bigint[], rest: bigint): bigint {
    if (rest !== 0n) return rest;
    let free = 1n << this.#bits;
    while (words.some((word) => this.#restOf(word) === free)) free += 1n << this.#bits;
    return free;
  }

  #restOf(word: bigint): bigint {
    return (word >> this.#bits) << this.#bits;
  }

  #valueOf(word: bigint): number {
    return Number(word & ((1n << this.#bits) - 1n));
  }
}

function wordsOf({ w0, w1, w2, w3, w4, w5, w6, w7 }: Bucket): bigint[] {
  return [w0, w1, w2, w3, w4, w5, w6, w7];
}

function bucketOf([w0 = 0n, w1 = 0n, w2 = 0n, w3 = 0n, w4 = 0n, w5 = 0n, w6 = 0n, w7 = 0n]: readonly bigint[]): Bucket {
  return { w0, w1, w2, w3, w4, w5, w6, w7 };
}
