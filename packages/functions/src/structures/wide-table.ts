/**
 * An exact-match table for keys of 160 bits, such as an IPv6 address with a port and a protocol. The digest of a key is
 * found in an exactTable, which has its place in an array of whole keys: that one is compared, so that no other key is
 * ever taken for it.
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
import { type ExactTableHandle, exactTable } from './exact-table.ts';
import { checkWideKey, digest, digested, type WideKey } from './mix.ts';

const entry = struct({ hi: u64, lo: u64, low: u32, value: u32 });
interface Entry extends Infer<typeof entry> {}

/** What programs do with a wide table. */
export interface WideTableOps {
  /** The value that the control plane gave the key, whose parts have 64, 64 and 32 bits; 0 where it gave none. */
  find(hi: bigint, lo: bigint, low: bigint): number;
}

/** What controllers do with a wide table. All methods throw ArgumentError for keys that do not fit. */
export interface WideTableHandle {
  /** Keys that it can hold. */
  readonly capacity: number;
  /** The key's value, `undefined` where it has none. */
  get(key: WideKey): number | undefined;
  /** Gives a key its value, 1..2^32-1. Throws ArgumentError for others, and where the table is full. */
  set(key: WideKey, value: number): void;
  /** True where the key was there. */
  delete(key: WideKey): boolean;
  /** All entries in no order that means anything. */
  entries(): Iterable<[key: WideKey, value: number]>;
  /** Entries; counting them reads the table. */
  readonly size: number;
}

/** A wide table, see `wideTable`. */
export interface WideTable extends Structure<WideTableOps, WideTableHandle> {}

/** Declares a table for 1..262,144 keys of 160 bits; each costs some 288 bytes. Throws ArgumentError for other sizes. */
export function wideTable(options: { readonly name: string; readonly entries: number }): WideTable {
  const { name, entries } = options;
  if (!Number.isSafeInteger(entries) || entries < 1 || entries > 262_144)
    throw new ArgumentError(`wideTable '${name}': entries is ${entries}, expected 1..262144`);
  const places = exactTable({ name: `${name}.places`, entries, maxValue: entries });
  const keys = arrayMap({ name: `${name}.keys`, value: entry, maxEntries: entries + 1 });
  return defineStructure({
    name,
    maps: { ...places.maps, keys },
    fns: {
      find: fn([u64, u64, u64], u32, { places, keys, digest }, (hi, lo, low, { places, keys, digest }) => {
        const known = keys.lookup(places.find(digest(hi, lo, low)));
        if (!known || known.hi !== hi || known.lo !== lo || BigInt(known.low) !== low) return 0;
        return known.value;
      }),
    },
    handle: (maps) => new TableHandle(name, places.handle(maps), maps.keys),
  });
}

/** Place 0 stands for nobody: its value stays 0, so that it is no entry. */
class TableHandle implements WideTableHandle {
  readonly capacity: number;
  readonly #name: string;
  readonly #places: ExactTableHandle;
  readonly #keys: ArrayHandle<Entry>;

  constructor(name: string, places: ExactTableHandle, keys: ArrayHandle<Entry>) {
    this.#name = name;
    this.#places = places;
    this.#keys = keys;
    this.capacity = keys.size - 1;
  }

  get(key: WideKey): number | undefined {
    const place = this.#placeOf(key);
    return place === undefined ? undefined : this.#keys.get(place)?.value;
  }

  set(key: WideKey, value: number): void {
    if (!Number.isInteger(value) || value < 1 || value > 0xffff_ffff)
      throw new ArgumentError(`wideTable '${this.#name}': value is ${value}, expected 1..4294967295`);
    const known = this.#placeOf(key);
    const place = known ?? this.#freePlace();
    this.#keys.set(place, { hi: key.hi, lo: key.lo, low: Number(key.low), value });
    // the key is there before anything leads to it
    if (known === undefined) this.#places.set(digested(key), place);
  }

  delete(key: WideKey): boolean {
    if (this.#placeOf(key) === undefined) return false;
    return this.#places.delete(digested(key));
  }

  *entries(): Iterable<[key: WideKey, value: number]> {
    for (const [, place] of this.#places.entries()) {
      const known = this.#keys.get(place);
      if (known) yield [{ hi: known.hi, lo: known.lo, low: BigInt(known.low) }, known.value];
    }
  }

  get size(): number {
    return this.#places.size;
  }

  /** Throws ArgumentError where another key has the same digest: one in 2^64 does. */
  #placeOf(key: WideKey): number | undefined {
    checkWideKey(`wideTable '${this.#name}'`, key);
    const place = this.#places.get(digested(key));
    if (place === undefined) return undefined;
    const known = this.#keys.get(place);
    if (known?.hi === key.hi && known.lo === key.lo && BigInt(known.low) === key.low) return place;
    throw new ArgumentError(`wideTable '${this.#name}': two keys have the digest ${digested(key)}, expected different ones`);
  }

  #freePlace(): number {
    const taken = new Set([...this.#places.entries()].map(([, place]) => place));
    for (let place = 1; place <= this.capacity; place++) if (!taken.has(place)) return place;
    throw new ArgumentError(`wideTable '${this.#name}': it has ${this.capacity} entries already`, {
      hint: 'declare the table with more entries',
    });
  }
}
