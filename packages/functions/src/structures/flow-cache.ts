/**
 * A table of flows for programs that must decide once for each flow and remember: a level of its own for each CPU, and
 * behind those a shared one, since a flow may change CPU. Both are set-associative: a bucket is a cache line of eight
 * entries, newest first. A full bucket forgets its oldest entry: a cache, so a miss is always possible.
 *
 * An entry is one 64-bit word. The key is mixed by a bijection; the upper bits of the result say which bucket, the rest
 * stands in the word, and the bits that this saves hold the value. So a word cannot be torn, key and value cannot be
 * those of two flows, and any CPU may write any bucket at any time: two at once may lose an entry or double it, but
 * what is found is what was stored for that key.
 *
 *     mixed key   [ bucket: b bits | rest: 64 - b bits ]
 *     word        [ rest: 64 - b bits | value: b bits ]      0: empty
 *
 * `b` is that of a CPU's level, for the shared one too: with 2^(b+3) entries for each CPU, values go to 2^b - 1.
 */
import {
  ArgumentError,
  type ArrayHandle,
  arrayMap,
  defineStructure,
  fn,
  type Infer,
  nothing,
  type Structure,
  struct,
  u32,
  u64,
} from '@tailrace/stage';
import { mix, unmix } from './mix.ts';

/** Entries of a bucket. */
const WAYS = 8;
const bucket = struct({ w0: u64, w1: u64, w2: u64, w3: u64, w4: u64, w5: u64, w6: u64, w7: u64 });
interface Bucket extends Infer<typeof bucket> {}

/** What programs do with a flow cache. `cpu` is `ctx.cpu()`. */
export interface FlowCacheOps {
  /** The value that was stored for `key`, a u64; 0 where there is none. */
  find(key: bigint, cpu: number): number;
  /** Stores a value, 1..maxValue; others are not stored. What the key had before is replaced. */
  insert(key: bigint, value: number, cpu: number): void;
}

/** One flow as the control plane sees it. */
export interface Flow {
  readonly key: bigint;
  readonly value: number;
}

/** What controllers do with a flow cache. */
export interface FlowCacheHandle {
  /** The largest value that an entry can hold. */
  readonly maxValue: number;
  /** The flows of the shared level; those that were evicted there may still be known to a CPU. */
  flows(): Iterable<Flow>;
  /** Flows in the shared level; counting them walks it. */
  readonly size: number;
  /**
   * Forgets the flows that `which` says, on all levels; returns how many entries went. Flows that programs store
   * meanwhile may stay, and a few others may go.
   */
  forget(which: (flow: Flow) => boolean): number;
  /** Forgets every flow. */
  clear(): void;
}

/** A flow cache, see `flowCache`. */
export interface FlowCache extends Structure<FlowCacheOps, FlowCacheHandle> {}

/** Sizes of a flow cache; flows are counts of entries, rounded up to powers of two. */
export interface FlowCacheOptions {
  readonly name: string;
  /** Entries of the shared level; default 524,288 (4 MiB). At least `perCpu`. */
  readonly flows?: number;
  /** Entries of each CPU's level; default 131,072 (1 MiB). At least 128. */
  readonly perCpu?: number;
  /** CPUs with a level of their own; beyond, they share. A power of two, default 16. */
  readonly shards?: number;
}

/** Declares a flow cache. Throws ArgumentError for sizes that no cache can have. */
export function flowCache(options: FlowCacheOptions): FlowCache {
  const { name, flows = 524_288, perCpu = 131_072, shards = 16 } = options;
  const nearBits = bucketBits(name, 'perCpu', perCpu);
  const farBits = bucketBits(name, 'flows', flows);
  if (farBits < nearBits) throw new ArgumentError(`flowCache '${name}': flows is ${flows}, expected at least perCpu, ${perCpu}`);
  if (!Number.isInteger(shards) || shards < 1 || shards > 1024 || (shards & (shards - 1)) !== 0)
    throw new ArgumentError(`flowCache '${name}': shards is ${shards}, expected a power of two of at most 1024`);
  const near = arrayMap({ name: `${name}.near`, value: bucket, maxEntries: shards * 2 ** nearBits, mmapable: true });
  const far = arrayMap({ name: `${name}.far`, value: bucket, maxEntries: 2 ** farBits, mmapable: true });
  const bits = BigInt(nearBits);
  const limit = 1n << bits;
  const places = {
    near,
    far,
    mix,
    bits,
    limit,
    lastShard: shards - 1,
    nearBuckets: 2 ** nearBits,
    nearShift: 64n - bits,
    farShift: BigInt(64 - farBits),
  };
  return defineStructure({
    name,
    maps: { near, far },
    fns: {
      find: fn(
        [u64, u32],
        u32,
        { ...places, recall, scan, put },
        (key, cpu, { near, far, mix, bits, limit, lastShard, nearBuckets, nearShift, farShift, recall, scan, put }) => {
          const mixed = mix(key);
          const rest = BigInt.asUintN(64, mixed << bits);
          const home = near.lookup((cpu & lastShard) * nearBuckets + Number(mixed >> nearShift));
          if (!home) return 0;
          const known = recall(home, rest, limit);
          if (known !== 0) return known;
          const other = far.lookup(Number(mixed >> farShift));
          if (!other) return 0;
          const learnt = scan(other, rest, limit);
          if (learnt !== 0) put(home, rest, rest | BigInt(learnt), limit);
          return learnt;
        },
      ),
      insert: fn(
        [u64, u32, u32],
        nothing,
        { ...places, put },
        (key, value, cpu, { near, far, mix, bits, limit, lastShard, nearBuckets, nearShift, farShift, put }) => {
          const entry = BigInt(value);
          if (entry === 0n || entry >= limit) return;
          const mixed = mix(key);
          const rest = BigInt.asUintN(64, mixed << bits);
          const home = near.lookup((cpu & lastShard) * nearBuckets + Number(mixed >> nearShift));
          if (home) put(home, rest, rest | entry, limit);
          const other = far.lookup(Number(mixed >> farShift));
          if (other) put(other, rest, rest | entry, limit);
        },
      ),
    },
    handle: ({ near, far }) => new CacheHandle(near, far, nearBits, farBits),
  });
}

/** The value of the entry with this rest, 0 where there is none. */
const scan = fn([bucket, u64, u64], u32, (bucket, rest, limit) => {
  const v0 = bucket.w0 ^ rest;
  if (v0 < limit) return Number(v0 & 0xffff_ffffn);
  const v1 = bucket.w1 ^ rest;
  if (v1 < limit) return Number(v1 & 0xffff_ffffn);
  const v2 = bucket.w2 ^ rest;
  if (v2 < limit) return Number(v2 & 0xffff_ffffn);
  const v3 = bucket.w3 ^ rest;
  if (v3 < limit) return Number(v3 & 0xffff_ffffn);
  const v4 = bucket.w4 ^ rest;
  if (v4 < limit) return Number(v4 & 0xffff_ffffn);
  const v5 = bucket.w5 ^ rest;
  if (v5 < limit) return Number(v5 & 0xffff_ffffn);
  const v6 = bucket.w6 ^ rest;
  if (v6 < limit) return Number(v6 & 0xffff_ffffn);
  const v7 = bucket.w7 ^ rest;
  if (v7 < limit) return Number(v7 & 0xffff_ffffn);
  return 0;
});

/**
 * As `scan`, and an entry of the older half changes places with one of the younger: flows that are in use stay, for one
 * write now and then, where the order of insertion alone would let them go. An empty word looks like value 0 to a key
 * whose rest is 0, and has to stay where it is.
 */
const recall = fn([bucket, u64, u64], u32, (bucket, rest, limit) => {
  const v0 = bucket.w0 ^ rest;
  if (v0 < limit) return Number(v0 & 0xffff_ffffn);
  const v1 = bucket.w1 ^ rest;
  if (v1 < limit) return Number(v1 & 0xffff_ffffn);
  const v2 = bucket.w2 ^ rest;
  if (v2 < limit) return Number(v2 & 0xffff_ffffn);
  const v3 = bucket.w3 ^ rest;
  if (v3 < limit) return Number(v3 & 0xffff_ffffn);
  const v4 = bucket.w4 ^ rest;
  if (v4 < limit) {
    if (v4 === 0n) return 0;
    bucket.w4 = bucket.w0;
    bucket.w0 = v4 ^ rest;
    return Number(v4 & 0xffff_ffffn);
  }
  const v5 = bucket.w5 ^ rest;
  if (v5 < limit) {
    if (v5 === 0n) return 0;
    bucket.w5 = bucket.w1;
    bucket.w1 = v5 ^ rest;
    return Number(v5 & 0xffff_ffffn);
  }
  const v6 = bucket.w6 ^ rest;
  if (v6 < limit) {
    if (v6 === 0n) return 0;
    bucket.w6 = bucket.w2;
    bucket.w2 = v6 ^ rest;
    return Number(v6 & 0xffff_ffffn);
  }
  const v7 = bucket.w7 ^ rest;
  if (v7 < limit) {
    if (v7 === 0n) return 0;
    bucket.w7 = bucket.w3;
    bucket.w3 = v7 ^ rest;
    return Number(v7 & 0xffff_ffffn);
  }
  return 0;
});

/** Puts a word in front and moves the others back, as far as the first free place or the entry that it replaces. */
const put = fn([bucket, u64, u64, u64], nothing, (bucket, rest, word, limit) => {
  const w0 = bucket.w0;
  bucket.w0 = word;
  if (w0 === 0n || (w0 ^ rest) < limit) return;
  const w1 = bucket.w1;
  bucket.w1 = w0;
  if (w1 === 0n || (w1 ^ rest) < limit) return;
  const w2 = bucket.w2;
  bucket.w2 = w1;
  if (w2 === 0n || (w2 ^ rest) < limit) return;
  const w3 = bucket.w3;
  bucket.w3 = w2;
  if (w3 === 0n || (w3 ^ rest) < limit) return;
  const w4 = bucket.w4;
  bucket.w4 = w3;
  if (w4 === 0n || (w4 ^ rest) < limit) return;
  const w5 = bucket.w5;
  bucket.w5 = w4;
  if (w5 === 0n || (w5 ^ rest) < limit) return;
  const w6 = bucket.w6;
  bucket.w6 = w5;
  if (w6 === 0n || (w6 ^ rest) < limit) return;
  bucket.w7 = w6;
});

/** Buckets of so many entries, as a power of two. Fewer than 4 bits would leave none for values; 24 are 1 GiB. */
function bucketBits(name: string, option: 'flows' | 'perCpu', flows: number): number {
  const bits = Math.ceil(Math.log2(flows / WAYS));
  if (!Number.isSafeInteger(flows) || bits < 4 || bits > 24)
    throw new ArgumentError(`flowCache '${name}': ${option} is ${flows}, expected 128..134217728`);
  return bits;
}

class CacheHandle implements FlowCacheHandle {
  readonly maxValue: number;
  readonly #near: ArrayHandle<Bucket>;
  readonly #far: ArrayHandle<Bucket>;
  /** A CPU's level has 2^bits buckets. */
  readonly #bits: number;
  /** The shared level has so many bits more. */
  readonly #extraBits: number;

  constructor(near: ArrayHandle<Bucket>, far: ArrayHandle<Bucket>, nearBits: number, farBits: number) {
    this.#near = near;
    this.#far = far;
    this.#bits = nearBits;
    this.#extraBits = farBits - nearBits;
    this.maxValue = 2 ** nearBits - 1;
  }

  *flows(): Iterable<Flow> {
    for (const [index, entries] of this.#far.getAll())
      for (const word of wordsOf(entries)) if (word !== 0n) yield this.#flowOf(index >> this.#extraBits, word);
  }

  get size(): number {
    let size = 0;
    for (const _ of this.flows()) size++;
    return size;
  }

  forget(which: (flow: Flow) => boolean): number {
    const near = this.#forgetIn(this.#near, (index) => index & (2 ** this.#bits - 1), which);
    return near + this.#forgetIn(this.#far, (index) => index >> this.#extraBits, which);
  }

  clear(): void {
    for (const level of [this.#far, this.#near]) level.setMany(Array.from({ length: level.size }, (_, index) => [index, bucketOf([])]));
  }

  /** `home` is which bucket of a CPU's level an entry of this level belongs to. */
  #forgetIn(level: ArrayHandle<Bucket>, home: (index: number) => number, which: (flow: Flow) => boolean): number {
    let forgotten = 0;
    const changed: [number, Bucket][] = [];
    for (const [index, entries] of level.getAll()) {
      // nothing stands behind an empty first word
      if (entries.w0 === 0n) continue;
      const words = wordsOf(entries).filter((word) => word !== 0n);
      const kept = words.filter((word) => !which(this.#flowOf(home(index), word)));
      if (kept.length === words.length) continue;
      changed.push([index, bucketOf(kept)]);
      forgotten += words.length - kept.length;
    }
    if (changed.length > 0) level.setMany(changed);
    return forgotten;
  }

  #flowOf(home: number, word: bigint): Flow {
    const bits = BigInt(this.#bits);
    const mixed = (BigInt(home) << (64n - bits)) | (word >> bits);
    return { key: unmix(mixed), value: Number(word & ((1n << bits) - 1n)) };
  }
}

function wordsOf({ w0, w1, w2, w3, w4, w5, w6, w7 }: Bucket): bigint[] {
  return [w0, w1, w2, w3, w4, w5, w6, w7];
}

function bucketOf([w0 = 0n, w1 = 0n, w2 = 0n, w3 = 0n, w4 = 0n, w5 = 0n, w6 = 0n, w7 = 0n]: readonly bigint[]): Bucket {
  return { w0, w1, w2, w3, w4, w5, w6, w7 };
}
