/**
 * A table of flows for programs that must decide once for each flow and remember, as flow-cache.ts, for keys of 160 bits:
 * a client's IPv6 address, its port and 16 bits more. One level that all CPUs share, set-associative: buckets of eight
 * entries, newest first. A full bucket forgets its oldest entry: a cache, so a miss is always possible.
 *
 * A key no longer fits into a word, so an entry is three, and any CPU may write any bucket at any time. What keeps the
 * words of two writes apart is that the key's halves are stored under the mixed tag (Hyatt and Mann, "A lock-less
 * transposition table implementation", ICGA Journal 25, 2002):
 *
 *     tag   [ 16 bits of the digest | low: 32 bits | value: 16 bits ]      0: empty
 *     hi    hi ^ mix(tag)
 *     lo    lo ^ mix(tag)
 *
 * The whole key is compared, and mix is a bijection: halves that were stored under one tag match under no other. So a key's
 * own halves are only ever read with the value that they were stored with. Two writes at once may lose an entry or double
 * it.
 */
import {
  ArgumentError,
  type ArrayHandle,
  array,
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
import { digest, mix, mixed, type WideKey } from './mix.ts';

/** Entries of a bucket. */
const WAYS = 8;
const bucket = struct({ tags: array(u64, WAYS), his: array(u64, WAYS), los: array(u64, WAYS) });
interface Bucket extends Infer<typeof bucket> {}

const MAX_VALUE = 0xffff;

/** What programs do with a wide flow cache. The parts of a key have 64, 64 and 32 bits. */
export interface WideFlowCacheOps {
  /** The value that was stored for the key; 0 where there is none. */
  find(hi: bigint, lo: bigint, low: bigint): number;
  /** Stores a value, 1..65,535; others are not stored. What the key had before is replaced. */
  insert(hi: bigint, lo: bigint, low: bigint, value: number): void;
}

/** One flow as the control plane sees it. */
export interface WideFlow {
  readonly key: WideKey;
  readonly value: number;
}

/** What controllers do with a wide flow cache. */
export interface WideFlowCacheHandle {
  /** The largest value that an entry can hold. */
  readonly maxValue: number;
  /** The flows that are remembered. */
  flows(): Iterable<WideFlow>;
  /** Flows; counting them walks the cache. */
  readonly size: number;
  /**
   * Forgets the flows that `which` says; returns how many entries went. Flows that programs store meanwhile may stay, and a
   * few others may go.
   */
  forget(which: (flow: WideFlow) => boolean): number;
  /** Forgets every flow. */
  clear(): void;
}

/** A wide flow cache, see `wideFlowCache`. */
export interface WideFlowCache extends Structure<WideFlowCacheOps, WideFlowCacheHandle> {}

/**
 * Declares a wide flow cache of `flows` entries, a count that is rounded up to a power of two, 128..4,194,304; default
 * 262,144. An entry takes 24 bytes. Throws ArgumentError for other sizes.
 */
export function wideFlowCache(options: { readonly name: string; readonly flows?: number }): WideFlowCache {
  const { name, flows = 262_144 } = options;
  if (!Number.isSafeInteger(flows) || flows < 128 || flows > 4_194_304)
    throw new ArgumentError(`wideFlowCache '${name}': flows is ${flows}, expected 128..4194304`);
  const bits = Math.ceil(Math.log2(flows / WAYS));
  const buckets = arrayMap({ name: `${name}.buckets`, value: bucket, maxEntries: 2 ** bits, mmapable: true });
  const places = { buckets, digest, mix, tagOf, shift: BigInt(64 - bits) };
  return defineStructure({
    name,
    maps: { buckets },
    fns: {
      find: fn(
        [u64, u64, u64],
        u32,
        { ...places, ways: WAYS, half: WAYS / 2 },
        (hi, lo, low, { buckets, digest, mix, tagOf, shift, ways, half }) => {
          const digested = digest(hi, lo, low);
          const home = buckets.lookup(Number(digested >> shift));
          if (!home) return 0;
          const { tags, his, los } = home;
          const wanted = tagOf(digested, low);
          for (let way = 0; way < ways; way++) {
            const tag = tags[way] ?? 0n;
            const value = tag ^ wanted;
            if (value > 0xffffn || value === 0n) continue;
            const cover = mix(tag);
            if ((his[way] ?? 0n) !== (hi ^ cover) || (los[way] ?? 0n) !== (lo ^ cover)) continue;
            if (way >= half) {
              // an older one changes places with a younger one, so that flows in use stay
              tags[way] = tags[way - half] ?? 0n;
              his[way] = his[way - half] ?? 0n;
              los[way] = los[way - half] ?? 0n;
              tags[way - half] = tag;
              his[way - half] = hi ^ cover;
              los[way - half] = lo ^ cover;
            }
            return Number(value);
          }
          return 0;
        },
      ),
      insert: fn(
        [u64, u64, u64, u32],
        nothing,
        { ...places, ways: WAYS },
        (hi, lo, low, value, { buckets, digest, mix, tagOf, shift, ways }) => {
          if (value === 0 || value > 0xffff) return;
          const digested = digest(hi, lo, low);
          const home = buckets.lookup(Number(digested >> shift));
          if (!home) return;
          const { tags, his, los } = home;
          const wanted = tagOf(digested, low);
          const first = wanted | BigInt(value);
          const cover = mix(first);
          // in front of the others, which move back as far as the first free place or the entry that it replaces
          let tag = first;
          let upper = hi ^ cover;
          let lower = lo ^ cover;
          for (let way = 0; way < ways; way++) {
            const oldTag = tags[way] ?? 0n;
            const oldUpper = his[way] ?? 0n;
            const oldLower = los[way] ?? 0n;
            tags[way] = tag;
            his[way] = upper;
            los[way] = lower;
            if (oldTag === 0n || (oldTag ^ wanted) <= 0xffffn) return;
            tag = oldTag;
            upper = oldUpper;
            lower = oldLower;
          }
        },
      ),
    },
    handle: ({ buckets }) => new CacheHandle(buckets),
  });
}

/** A tag without its value. The digest's upper bits say which bucket, so others are taken. */
const tagOf = fn([u64, u64], u64, (digest, low) => (BigInt.asUintN(64, digest << 16n) & 0xffff_0000_0000_0000n) | (low << 16n));

class CacheHandle implements WideFlowCacheHandle {
  readonly maxValue = MAX_VALUE;
  readonly #buckets: ArrayHandle<Bucket>;

  constructor(buckets: ArrayHandle<Bucket>) {
    this.#buckets = buckets;
  }

  *flows(): Iterable<WideFlow> {
    for (const [, entries] of this.#buckets.getAll()) for (const words of wordsOf(entries)) if (words.tag !== 0n) yield flowOf(words);
  }

  get size(): number {
    let size = 0;
    for (const _ of this.flows()) size++;
    return size;
  }

  forget(which: (flow: WideFlow) => boolean): number {
    let forgotten = 0;
    const changed: [number, Bucket][] = [];
    for (const [index, entries] of this.#buckets.getAll()) {
      // nothing stands behind an empty first entry
      if (entries.tags[0] === 0n) continue;
      const all = wordsOf(entries).filter(({ tag }) => tag !== 0n);
      const kept = all.filter((words) => !which(flowOf(words)));
      if (kept.length === all.length) continue;
      changed.push([index, bucketOf(kept)]);
      forgotten += all.length - kept.length;
    }
    if (changed.length > 0) this.#buckets.setMany(changed);
    return forgotten;
  }

  clear(): void {
    const used = this.#buckets.getAll().filter(([, { tags }]) => tags[0] !== 0n);
    if (used.length > 0) this.#buckets.setMany(used.map(([index]) => [index, bucketOf([])]));
  }
}

interface Words {
  readonly tag: bigint;
  readonly hi: bigint;
  readonly lo: bigint;
}

function flowOf({ tag, hi, lo }: Words): WideFlow {
  const cover = mixed(tag);
  return { key: { hi: hi ^ cover, lo: lo ^ cover, low: (tag >> 16n) & 0xffff_ffffn }, value: Number(tag & 0xffffn) };
}

function wordsOf({ tags, his, los }: Bucket): Words[] {
  return Array.from({ length: WAYS }, (_, way) => ({ tag: tags[way] ?? 0n, hi: his[way] ?? 0n, lo: los[way] ?? 0n }));
}

function bucketOf(entries: readonly Words[]): Bucket {
  const column = (of: (words: Words) => bigint): bigint[] =>
    Array.from({ length: WAYS }, (_, way) => (entries[way] ? of(entries[way]) : 0n));
  return { tags: column(({ tag }) => tag), his: column(({ hi }) => hi), los: column(({ lo }) => lo) };
}
