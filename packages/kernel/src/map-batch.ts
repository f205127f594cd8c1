/**
 * Many entries at once: BPF_MAP_*_BATCH, and entry by entry for the kinds that have no batch operations. Which kinds
 * those are depends on the kernel, which says so itself (ENOTSUPP, kernel/bpf/syscall.c BPF_DO_BATCH); nothing else
 * makes this file fall back.
 */
import type { Batch, MapSpec } from '@tailrace/bpf';
import { readAttribute } from './attribute.ts';
import { bpfError, tryBpf } from './bpf.ts';
import { Errno } from './errno.ts';
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

/** Entries that one BPF_MAP_LOOKUP_BATCH asks for at first: a few hundred kB of kernel work between signals. */
const chunkEntries = 8192;

/** All entries of a map. */
export function readAll(map: BatchTarget): Batch {
  const { keySize, maxEntries, name } = map.spec;
  const result = new GrowingBatch(keySize, map.valueStride, Math.min(maxEntries, chunkEntries));
  // The place to go on from: 4 bytes for hashes, a key for other kinds.
  const position = allocate(Math.max(keySize, 8));
  let chunk = Math.min(maxEntries, chunkEntries);
  let started = false;
  for (;;) {
    const keys = allocate(chunk * keySize);
    const values = allocate(chunk * map.valueStride);
    const { result: status, attributes } = tryBpf(
      'BPF_MAP_LOOKUP_BATCH',
      {
        map_fd: map.fd,
        in_batch: started ? position.address : 0,
        out_batch: position.address,
        keys: keys.address,
        values: values.address,
        count: chunk,
      },
      [position, keys, values],
    );
    if (status === -Errno.ENOTSUPP) return readEach(map, result);
    // A bucket of a hash holds more than the room that was offered: offer more and ask again from the same place.
    if (status === -Errno.ENOSPC && chunk < 2 * maxEntries) {
      chunk *= 2;
      continue;
    }
    if (status < 0 && status !== -Errno.ENOENT) throw bpfError('BPF_MAP_LOOKUP_BATCH', status, `map ${name}`);
    const count = readAttribute('BPF_MAP_LOOKUP_BATCH', attributes, 'count');
    result.append(keys.bytes, values.bytes, count);
    // ENOENT: these were the last.
    if (status === -Errno.ENOENT) return result.finish();
    started = true;
  }
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

/** Deletes entries; keys that are not there are passed over. */
export function deleteAll(map: BatchTarget, keys: Uint8Array, count: number): void {
  const { keySize, name } = map.spec;
  const memory = allocateCopy(keys);
  let done = 0;
  while (done < count) {
    const { result, attributes } = tryBpf(
      'BPF_MAP_DELETE_BATCH',
      { map_fd: map.fd, keys: memory.address + done * keySize, count: count - done },
      [memory],
    );
    if (result >= 0) return;
    if (result === -Errno.ENOTSUPP) {
      for (let index = done; index < count; index += 1) map.delete(slice(keys, index, keySize));
      return;
    }
    if (result !== -Errno.ENOENT) {
      throw bpfError('BPF_MAP_DELETE_BATCH', result, `map ${name} (${done} of ${count} keys passed)`);
    }
    // Stopped at a key that is not there: go on behind it.
    done += readAttribute('BPF_MAP_DELETE_BATCH', attributes, 'count') + 1;
  }
}

function readEach(map: BatchTarget, result: GrowingBatch): Batch {
  for (let key = map.nextKey(); key; key = map.nextKey(key)) {
    const value = map.lookup(key);
    if (value) result.append(key, value, 1);
  }
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
