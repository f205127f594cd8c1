/**
 * What the control plane gets for a map. The pipeline package implements these over a live map; structures build their
 * own handles out of them. Every method throws ArgumentError for a value that its schema cannot hold and SyscallError
 * where the kernel refuses (E2BIG: the map is full).
 */
import type { LoadedProgram, UpdateFlag } from '@tailrace/bpf';

/** A map with keys that come and go. */
export interface KeyedHandle<K, V> {
  /** The value, copied; `undefined` where there is no such key. */
  get(key: K): V | undefined;
  /** Throws SyscallError EEXIST or ENOENT where `flag` forbids the write. */
  set(key: K, value: V, flag?: UpdateFlag): void;
  /** False where there was no such key. */
  delete(key: K): boolean;
  /** Walks the map; entries that change meanwhile may be missed or seen in either state. */
  entries(): Iterable<[key: K, value: V]>;
  /** All entries, read in batches where the engine has them. */
  getAll(): [key: K, value: V][];
  /** Writes many entries in batches; not atomic as a whole. */
  setMany(entries: Iterable<readonly [key: K, value: V]>): void;
  /** Removes many keys; keys that are not there are passed over. Returns how many were. */
  deleteMany(keys: Iterable<K>): number;
  /** Entries in the map now; counting them walks the map. */
  readonly size: number;
}

/** A map of indices 0..maxEntries-1 that all exist from the start, zeroed. */
export interface ArrayHandle<V> {
  /** The value, copied; `undefined` outside the array. */
  get(index: number): V | undefined;
  set(index: number, value: V): void;
  entries(): Iterable<[index: number, value: V]>;
  /** All entries in order, read in batches. */
  getAll(): [index: number, value: V][];
  setMany(entries: Iterable<readonly [index: number, value: V]>): void;
  /** Always `maxEntries`. */
  readonly size: number;
}

/** Values of one kind summed over the CPUs: numbers and bigints are added, of booleans any, structs by field. */
export type Sum<V> = V extends number
  ? number
  : V extends bigint
    ? bigint
    : V extends boolean
      ? boolean
      : { readonly [K in keyof V]: Sum<V[K]> };

/** A keyed map with one value for each possible CPU. */
export interface PerCpuHandle<K, V> {
  /** One value for each CPU, in order. */
  get(key: K): V[] | undefined;
  /** The values of all CPUs as one. */
  sum(key: K): Sum<V> | undefined;
  /** `values` has one for each CPU. Throws ArgumentError on another count. */
  set(key: K, values: readonly V[], flag?: UpdateFlag): void;
  delete(key: K): boolean;
  entries(): Iterable<[key: K, values: V[]]>;
  getAll(): [key: K, values: V[]][];
  setMany(entries: Iterable<readonly [key: K, values: readonly V[]]>): void;
  deleteMany(keys: Iterable<K>): number;
  readonly size: number;
}

/** An array with one value for each possible CPU in every place. */
export interface PerCpuArrayHandle<V> {
  /** One value for each CPU, in order; `undefined` outside the array. */
  get(index: number): V[] | undefined;
  /** The values of all CPUs as one. */
  sum(index: number): Sum<V> | undefined;
  /** `values` has one for each CPU. Throws ArgumentError on another count. */
  set(index: number, values: readonly V[]): void;
  entries(): Iterable<[index: number, values: V[]]>;
  getAll(): [index: number, values: V[]][];
  setMany(entries: Iterable<readonly [index: number, values: readonly V[]]>): void;
  readonly size: number;
}

/** A program array: slots that a chain's tail calls go through. */
export interface ProgramArrayHandle {
  set(slot: number, program: LoadedProgram): Promise<void>;
  /** Empties a slot, which takes about 8 ms. */
  clear(slot: number): Promise<void>;
}
