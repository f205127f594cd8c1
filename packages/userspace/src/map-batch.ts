/** All entries of a map, in parts that the memory has room for. */
import { type Batch, type MapSpec, TailraceError } from '@tailrace/bpf';
import type { EngineMemory } from './memory.ts';

/** The part of a map that reading needs. */
interface ReadTarget {
  readonly spec: MapSpec;
  readonly valueStride: number;
  readonly address: number;
}

/** Bytes of keys and values that are copied out at a time. */
const CHUNK = 4 << 20;
/** Parts beyond those that the entries fill, before a walk is given up that starts over and over. */
const PATIENCE = 64;

/**
 * All entries in parts, each key once. Where the map `mayChange` between two parts and the last key of one is gone, the next one
 * starts over: keys that were met are passed over then. Throws TailraceError (`conflict`) where that
 * never ends.
 */
export function* readParts(
  memory: Pick<EngineMemory, 'runtime' | 'scratch' | 'u8'>,
  map: ReadTarget,
  mayChange: boolean,
): Generator<Batch> {
  const { keySize, maxEntries, name } = map.spec;
  const { valueStride } = map;
  const room = Math.max(1, Math.min(maxEntries + 1, Math.floor(CHUNK / (keySize + valueStride))));
  const keyRoom = Math.ceil(keySize / 8) * 8;
  const seen = mayChange && room <= maxEntries ? new Set<string>() : undefined;
  let last: Uint8Array | undefined;
  for (let left = Math.ceil(maxEntries / room) + PATIENCE; left > 0; left -= 1) {
    // others have the scratch room between two parts
    const cursor = memory.scratch(keyRoom + room * (keySize + valueStride));
    const keys = cursor + keyRoom;
    const values = keys + room * keySize;
    if (last) memory.u8.set(last, cursor);
    const count = memory.runtime.map_copy(map.address, cursor, last ? 0 : 1, keys, values, room);
    last = memory.u8.slice(cursor, cursor + keySize);
    const part = {
      count,
      keys: memory.u8.slice(keys, keys + count * keySize),
      values: memory.u8.slice(values, values + count * valueStride),
    };
    yield seen ? unseen(part, keySize, valueStride, seen) : part;
    if (count < room) return;
  }
  throw new TailraceError('conflict', `map ${name}: keys come and go faster than they can be read`, {
    hint: 'read it while less is written',
  });
}

/** The entries of a part whose keys were not met before. */
function unseen({ count, keys, values }: Batch, keySize: number, stride: number, seen: Set<string>): Batch {
  let kept = 0;
  for (let index = 0; index < count; index++) {
    const key = keys.subarray(index * keySize, (index + 1) * keySize);
    const name = Buffer.from(key.buffer, key.byteOffset, keySize).toString('latin1');
    if (seen.has(name)) continue;
    seen.add(name);
    keys.copyWithin(kept * keySize, index * keySize, (index + 1) * keySize);
    values.copyWithin(kept * stride, index * stride, (index + 1) * stride);
    kept += 1;
  }
  return { count: kept, keys: keys.subarray(0, kept * keySize), values: values.subarray(0, kept * stride) };
}
