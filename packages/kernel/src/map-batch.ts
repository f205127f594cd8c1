/**
 * Many entries at once: BPF_MAP_*_BATCH, and entry by entry for the kinds that have no batch operations. Which kinds
 * those are depends on the kernel, which says so itself (ENOTSUPP, kernel/bpf/syscall.c BPF_DO_BATCH); nothing else
 * makes this file fall back.
 */
import type { Batch, MapSpec } from '@tailrace/bpf';
import { readAttribute } from './attribute.ts';
import { bpfError, tryBpf } from './bpf.ts';
import { Errno } from './errno.ts';
import { inPasses } from './map-pass.ts';
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

/** All entries of a map in parts, each key once. Throws as `walk` does for kinds that are read key by key. */
export function readParts(map: BatchTarget): Iterable<Batch> {
  switch (map.spec.type) {
    case 'hash':
    case 'lruHash':
    case 'perCpuHash':
    case 'lruPerCpuHash':
    case 'array':
    case 'perCpuArray':
      // Hashes are read bucket by bucket, under its lock; arrays have all their keys all the time.
      return readBatches(map, () => true);
    case 'lpmTrie':
      return inPasses(() => {
        const met = new Map<string, Uint8Array>();
        // one that is there already does not make it larger
        return readBatches(map, (key) => met.size < met.set(nameOf(key), key).size, met);
      });
    default:
      return readEach(map, []);
  }
}

/**
 * Reads by batches, as long as keys are `fresh`. One that is not says that the kernel lost its place and started over: the
 * rest is read key by key then, behind those of `met`.
 */
function* readBatches(
  map: BatchTarget,
  fresh: (key: Uint8Array) => unknown,
  met: ReadonlyMap<string, Uint8Array> = new Map(),
): Generator<Batch> {
  const { keySize, maxEntries, name } = map.spec;
  // The place to go on from: 4 bytes for hashes, a key for other kinds.
  const position = allocate(Math.max(keySize, 8));
  let room = roomOf(map);
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
    if (status === -Errno.ENOTSUPP) return yield* readEach(map, []);
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
    yield { count: read, keys: keys.bytes.subarray(0, read * keySize), values: values.bytes.subarray(0, read * map.valueStride) };
    if (read < count || status === -Errno.EINTR) return yield* readEach(map, [...met.values()]);
    // ENOENT: these were the last.
    if (status === -Errno.ENOENT) return;
    started = true;
  }
}

/** Entries of a part. */
function roomOf({ spec, valueStride }: BatchTarget): number {
  return Math.min(spec.maxEntries, chunk.entries, Math.max(1, Math.floor(chunk.bytes / (spec.keySize + valueStride))));
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

function* readEach(map: BatchTarget, met: readonly Uint8Array[]): Generator<Batch> {
  const { keySize } = map.spec;
  const room = roomOf(map);
  const fresh = (): { count: number; keys: Uint8Array; values: Uint8Array } => ({
    count: 0,
    keys: new Uint8Array(room * keySize),
    values: new Uint8Array(room * map.valueStride),
  });
  let part = fresh();
  for (const [key, value] of walk(map, met)) {
    part.keys.set(key, part.count * keySize);
    part.values.set(value, part.count * map.valueStride);
    part.count += 1;
    if (part.count < room) continue;
    yield part;
    part = fresh();
  }
  yield {
    count: part.count,
    keys: part.keys.subarray(0, part.count * keySize),
    values: part.values.subarray(0, part.count * map.valueStride),
  };
}

function slice(bytes: Uint8Array, index: number, size: number): Uint8Array {
  return bytes.subarray(index * size, (index + 1) * size);
}
