/**
 * Many entries at once: BPF_MAP_*_BATCH, and entry by entry for the kinds that have no batch operations. Which kinds
 * those are depends on the kernel, which says so itself (ENOTSUPP, kernel/bpf/syscall.c BPF_DO_BATCH); nothing else
 * makes this file fall back.
 */
import type { Batch, MapSpec } from '@tailrace/bpf';
import { readAttribute } from './attribute.ts';
import { bpfError, tryBpf } from './bpf.ts';
import { Errno } from './errno.ts';
import { nameOf, walk } from './map-walk.ts';
import { allocate, allocateCopy } from './memory.ts';

/** The part of a map that batches need. */
export interface BatchTarget {
  readonly spec: MapSpec;
  readonly fd: number;
  readonly valueStride: number;
  lookup(key: Uint8Array): Uint8Array | undefined;
  update(key: Uint8Array, value: Uint8Array): void;
  delete(key: Uint8Array): boolean;
  nextKey(key?: Uint8Array): Uint8Array | undefined;
}

/** What one BPF_MAP_LOOKUP_BATCH asks for at first: a few hundred kB of kernel work between signals, and not all of memory. */
const chunk = { entries: 8192, bytes: 4 << 20 } as const;

/** All entries of a map, each key once. Throws as `walk` does for kinds that are read key by key. */
export function readAll(map: BatchTarget): Batch {
  switch (map.spec.type) {
    case 'hash':
    case 'lruHash':
    case 'perCpuHash':
    case 'lruPerCpuHash':
    case 'array':
    case 'perCpuArray':
      // Hashes are read bucket by bucket, under its lock; arrays have all their keys all the time.
      return readBatches(map, () => true);
    case 'lpmTrie': {
      const met = new Map<string, Uint8Array>();
      return readBatches(map, (key) => !met.has(nameOf(key)) && met.set(nameOf(key), key), met);
    }
    default:
      return readEach(map, growing(map), []);
  }
}

/**
 * Reads by batches, as long as keys are `fresh`. One that is not says that the kernel lost its place and started over: the
 * rest is read key by key then, behind those of `met`.
 */
function readBatches(map: BatchTarget, fresh: (key: Uint8Array) => unknown, met: ReadonlyMap<string, Uint8Array> = new Map()): Batch {
  const { keySize, maxEntries, name } = map.spec;
  const result = growing(map);
  // The place to go on from: 4 bytes for hashes, a key for other kinds.
  const position = allocate(Math.max(keySize, 8));
  let room = result.capacity;
  let started = false;
  for (;;) {
    const keys = allocate(room * keySize);
    const values = allocate(room * map.valueStride);
    const { result: status, attributes } = tryBpf(
      'BPF_MAP_LOOKUP_BATCH',
      {
        map_fd: map.fd,
        in_batch: started ? position.address : 0,
        out_batch: position.address,
        keys: keys.address,
        values: values.address,
        count: room,
      },
      [position, keys, values],
    );
    if (status === -Errno.ENOTSUPP) return readEach(map, result, []);
    // A bucket of a hash holds more than the room that was offered: offer more and ask again from the same place.
    if (status === -Errno.ENOSPC && room < 2 * maxEntries) {
      room *= 2;
      continue;
    }
    // EINTR: Linux before 6.14 gives up where entries go while it reads.
    if (status < 0 && status !== -Errno.ENOENT && status !== -Errno.EINTR) throw bpfError('BPF_MAP_LOOKUP_BATCH', status, `map ${name}`);
    const count = readAttribute('BPF_MAP_LOOKUP_BATCH', attributes, 'count');
    let read = 0;
    while (read < count && fresh(slice(keys.bytes, read, keySize))) read += 1;
    result.append(keys.bytes, values.bytes, read);
    if (read < count || status === -Errno.EINTR) return readEach(map, result, [...met.values()]);
    // ENOENT: these were the last.
    if (status === -Errno.ENOENT) return result.finish();
    started = true;
  }
}

function growing({ spec, valueStride }: BatchTarget): GrowingBatch {
  const entries = Math.min(spec.maxEntries, chunk.entries, Math.max(1, Math.floor(chunk.bytes / (spec.keySize + valueStride))));
  return new GrowingBatch(spec.keySize, valueStride, entries);
}

/** Inserts or overwrites entries. On failure throws SyscallError whose message says how many were written. */
export function updateAll(map: BatchTarget, batch: Batch): void {
  if (batch.count === 0) return;
  const { keySize, name } = map.spec;
  const keys = allocateCopy(batch.keys);
  const values = allocateCopy(batch.values);
  const { result, attributes } = tryBpf(
    'BPF_MAP_UPDATE_BATCH',
    { map_fd: map.fd, keys: keys.address, values: values.address, count: batch.count },
    [keys, values],
  );
  if (result === -Errno.ENOTSUPP) {
    for (let index = 0; index < batch.count; index += 1) {
      map.update(slice(batch.keys, index, keySize), slice(batch.values, index, map.valueStride));
    }
  } else if (result < 0) {
    const done = readAttribute('BPF_MAP_UPDATE_BATCH', attributes, 'count');
    throw bpfError('BPF_MAP_UPDATE_BATCH', result, `map ${name} (${done} of ${batch.count} entries written)`);
  }
}

/** Deletes entries and returns how many were there; other keys are passed over. */
export function deleteAll(map: BatchTarget, keys: Uint8Array, count: number): number {
  const { keySize, name } = map.spec;
  const memory = allocateCopy(keys);
  let done = 0;
  let deleted = 0;
  while (done < count) {
    const { result, attributes } = tryBpf(
      'BPF_MAP_DELETE_BATCH',
      { map_fd: map.fd, keys: memory.address + done * keySize, count: count - done },
      [memory],
    );
    if (result >= 0) return deleted + count - done;
    if (result === -Errno.ENOTSUPP) {
      for (; done < count; done += 1) if (map.delete(slice(keys, done, keySize))) deleted += 1;
      return deleted;
    }
    if (result !== -Errno.ENOENT) {
      throw bpfError('BPF_MAP_DELETE_BATCH', result, `map ${name} (${done} of ${count} keys passed)`);
    }
    // Stopped at a key that is not there: go on behind it.
    const passed = readAttribute('BPF_MAP_DELETE_BATCH', attributes, 'count');
    deleted += passed;
    done += passed + 1;
  }
  return deleted;
}

function readEach(map: BatchTarget, result: GrowingBatch, met: readonly Uint8Array[]): Batch {
  for (const [key, value] of walk(map, met)) result.append(key, value, 1);
  return result.finish();
}

function slice(bytes: Uint8Array, index: number, size: number): Uint8Array {
  return bytes.subarray(index * size, (index + 1) * size);
}

class GrowingBatch {
  readonly #keySize: number;
  readonly #stride: number;
  #capacity: number;
  #count = 0;
  #keys: Uint8Array;
  #values: Uint8Array;

  constructor(keySize: number, stride: number, capacity: number) {
    this.#keySize = keySize;
    this.#stride = stride;
    this.#capacity = capacity;
    this.#keys = new Uint8Array(capacity * keySize);
    this.#values = new Uint8Array(capacity * stride);
  }

  /** Entries that there is room for. */
  get capacity(): number {
    return this.#capacity;
  }

  append(keys: Uint8Array, values: Uint8Array, count: number): void {
    const needed = this.#count + count;
    if (needed > this.#capacity) {
      this.#capacity = Math.max(needed, 2 * this.#capacity);
      this.#keys = grown(this.#keys, this.#capacity * this.#keySize);
      this.#values = grown(this.#values, this.#capacity * this.#stride);
    }
    this.#keys.set(keys.subarray(0, count * this.#keySize), this.#count * this.#keySize);
    this.#values.set(values.subarray(0, count * this.#stride), this.#count * this.#stride);
    this.#count = needed;
  }

  finish(): Batch {
    return {
      count: this.#count,
      keys: this.#keys.subarray(0, this.#count * this.#keySize),
      values: this.#values.subarray(0, this.#count * this.#stride),
    };
  }
}

function grown(bytes: Uint8Array, size: number): Uint8Array {
  const larger = new Uint8Array(size);
  larger.set(bytes);
  return larger;
}
