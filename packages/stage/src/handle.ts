/**
 * What the control plane gets for a map. The pipeline package implements these over a live map; structures build their
 * own handles out of them. Every method throws ArgumentError for a value that its schema cannot hold and SyscallError
 * where the kernel refuses (E2BIG: the map is full).
 */
import type { LoadedProgram, UpdateFlag } from '@tailrace/bpf';
import type { Observable } from 'rxjs';

/** What became different in a map between two looks at it. Values are different where a byte of them is. */
export interface MapChanges<K, V> {
  /** Entries that came. */
  readonly added: readonly (readonly [key: K, value: V])[];
  /** Entries that have another value now. */
  readonly changed: readonly (readonly [key: K, value: V, before: V])[];
  /** Entries that are gone, with the value that was seen last. */
  readonly removed: readonly (readonly [key: K, value: V])[];
}

/** What handles of maps with entries have in common; per-CPU maps have a value for each CPU. */
export interface WatchedHandle<K, V> {
  /**
   * What changes, looked for every so many milliseconds of the pipeline's clock: first everything that is there, as added, then
   * whatever became different since, and nothing where nothing did. What comes and goes between two looks is not seen. Each look
   * reads the whole map as `getAll` does, and each subscriber has looks of its own (`share()` makes them one); they end when it
   * leaves. Completes when the map is closed, ends with what reading throws. Throws ArgumentError for a period that is none.
   */
  changes$(periodMs: number): Observable<MapChanges<K, V>>;
  /**
   * Writes all entries into a file, for this user alone; resolves to how many. They are read as `getAll` reads them, in parts as
   * the writing goes. The file takes its name once it is whole and on the disk: whatever fails, one that was there before stays.
   * Throws SnapshotError (`snapshot`) for what the file system refuses, ArgumentError where the map is closed meanwhile.
   */
  save(path: string): Promise<number>;
  /**
   * Writes the entries of a file over those of the map; others stay. Resolves to how many there were. Before the first entry is
   * written the whole file is read: throws SnapshotError where it is no such file, cut or damaged, ConflictError with what differs
   * where its map had another kind, key or value, or another number of CPUs, ArgumentError where it has more entries than the map
   * has places, or sums that a value cannot hold. Later, SyscallError (E2BIG) where other entries leave no room for all of them.
   */
  restore(path: string, options?: RestoreOptions): Promise<number>;
}

/** How a file is read into a map. */
export interface RestoreOptions {
  /**
   * Per-CPU maps: what becomes of the values where the file is from a machine with another number of CPUs. `same`, the default,
   * refuses it; `sum` gives the first CPU what `sum` of the handle would have told, and the others zeros.
   */
  readonly cpus?: 'same' | 'sum';
}

/** A map with keys that come and go. */
export interface KeyedHandle<K, V> extends WatchedHandle<K, V> {
  /** The value, copied; `undefined` where there is no such key. */
  get(key: K): V | undefined;
  /** Throws SyscallError EEXIST or ENOENT where `flag` forbids the write. */
  set(key: K, value: V, flag?: UpdateFlag): void;
  /** False where there was no such key. */
  delete(key: K): boolean;
  /**
   * The entries as they were when the iteration began: taking some out meanwhile is safe. As `getAll` otherwise.
   */
  entries(): Iterable<[key: K, value: V]>;
  /**
   * All entries, read in batches where the engine has them, no key twice. Programs may write meanwhile: entries that stay
   * are there, others may be missed or seen in either state. Throws TailraceError (`conflict`) where keys of a trie come and
   * go faster than they can be read.
   */
  getAll(): [key: K, value: V][];
  /** Writes many entries in batches; not atomic as a whole. */
  setMany(entries: Iterable<readonly [key: K, value: V]>): void;
  /** Removes many keys; keys that are not there are passed over. Returns how many were. */
  deleteMany(keys: Iterable<K>): number;
  /** Entries in the map now; counting them walks the map. */
  readonly size: number;
}

/** A map of indices 0..maxEntries-1 that all exist from the start, zeroed. */
export interface ArrayHandle<V> extends WatchedHandle<number, V> {
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
export interface PerCpuHandle<K, V> extends WatchedHandle<K, V[]> {
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
export interface PerCpuArrayHandle<V> extends WatchedHandle<number, V[]> {
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

/** What a push does where there is no room: `any` fails, `exist` takes the oldest value out. */
export type PushFlag = Exclude<UpdateFlag, 'noexist'>;

/** A queue or a stack. The kernel does not tell how many values are in. */
export interface QueueHandle<V> {
  /** Throws SyscallError E2BIG where it is full and `flag` is not `exist`; `any` unless said otherwise. */
  push(value: V, flag?: PushFlag): void;
  /** Takes the next value out; `undefined` where there is none. */
  pop(): V | undefined;
  /** The next value, which stays. */
  peek(): V | undefined;
}

/** A bloom filter. */
export interface BloomHandle<V> {
  add(value: V): void;
  /** False where the value was never added; true where it was, and now and then where it was not. */
  has(value: V): boolean;
}

/** Slots for file descriptors that the kernel does not give back. */
export interface DescriptorHandle<K> {
  /** `fd` may be closed afterwards. Throws SyscallError (EOPNOTSUPP for a descriptor of another kind, EEXIST or ENOENT by `flag`). */
  set(key: K, fd: number, flag?: UpdateFlag): void;
  /** Empties the slot. */
  delete(key: K): void;
}

/** A map of sockets. A socket leaves it when it is closed. */
export interface SocketHandle<K> {
  /**
   * The socket must be of a kind and in a state that the kernel takes: an established TCP connection, say. Throws
   * SyscallError (EOPNOTSUPP where it is not, EEXIST or ENOENT by `flag`, E2BIG where a sockhash is full).
   */
  set(key: K, fd: number, flag?: UpdateFlag): void;
  /** The socket's cookie (SO_COOKIE), which no other socket has; `undefined` where there is none under the key. */
  cookie(key: K): bigint | undefined;
  /** False where there was none. The socket stays open. */
  delete(key: K): boolean;
  /** Keys that have a socket now. */
  keys(): K[];
  /** Sockets in the map now; counting them walks the map. */
  readonly size: number;
}

/** The handle of one inner map. Closing it leaves the map where it was put; it goes when the last place is given to another. */
export type InnerHandle<H> = H & Disposable & { close(): void };

/**
 * A map of maps; `H` is what the inner maps' handles can do. What changes which map lies under a key takes about 10 ms off
 * the main thread, since the kernel waits for the programs that may be reading: once it is done, none works on the old map.
 */
export interface MapsHandle<K, H> {
  /** Makes an inner map that no key leads to yet. It is closed with the outer map, or by `close()`. */
  create(): InnerHandle<H>;
  /**
   * Puts an inner map under a key: one that was made here, or a fresh one. Throws ArgumentError for a handle that was not
   * made here or is closed, SyscallError (E2BIG: the map is full, or the index beyond its end).
   */
  set(key: K, inner?: H): Promise<InnerHandle<H>>;
  /** The handle of the map under a key; `undefined` where there is none, and where it was not made here or is closed. */
  get(key: K): InnerHandle<H> | undefined;
  /** Takes the map away from a key; its handle stays open. False where there was none. */
  delete(key: K): Promise<boolean>;
  /** Keys that have a map now. */
  keys(): K[];
  /** Keys that have a map now; counting them walks the map. */
  readonly size: number;
}
