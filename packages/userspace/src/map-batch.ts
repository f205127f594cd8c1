/** All entries of a map, in parts that the memory has room for. */
import { type Batch, type MapSpec, TailraceError } from '@tailrace/bpf';
import { MAP_SHARED } from './layout.ts';
import type { EngineMemory } from './memory.ts';

/** The part of a map that reading needs. */
interface ReadTarget {
  readonly spec: MapSpec;
  readonly valueStride: number;
  readonly address: number;
  field(offset: number): number;
}

/** Bytes of keys and values that are copied out at a time. */
const CHUNK = 4 << 20;
/** Parts beyond those that the entries fill, before a walk is given up that starts over and over. */
const PATIENCE = 64;

/**
 * All entries, each key once. Between two parts other threads may change the map, and where the last key of a part is gone
 * the next one starts over: keys that were met are passed over then. Throws TailraceError (`conflict`) where that never ends.
 */
export function readEntries(memory: Pick<EngineMemory, 'runtime' | 'scratch' | 'u8'>, map: ReadTarget): Batch {
  const { keySize, maxEntries, name } = map.spec;
  const { valueStride } = map;
  const room = Math.max(1, Math.min(maxEntries + 1, Math.floor(CHUNK / (keySize + valueStride))));
  const keyRoom = Math.ceil(keySize / 8) * 8;
  const cursor = memory.scratch(keyRoom + room * (keySize + valueStride));
  const keys = cursor + keyRoom;
  const values = keys + room * keySize;
  const seen = map.field(MAP_SHARED) === 1 && room <= maxEntries ? new Set<string>() : undefined;
  const parts: Batch[] = [];
  let left = Math.ceil(maxEntries / room) + PATIENCE;
  for (let isFirst = 1; ; isFirst = 0) {
    const count = memory.runtime.map_copy(map.address, cursor, isFirst, keys, values, room);
    const part = {
      count,
      keys: memory.u8.slice(keys, keys + count * keySize),
      values: memory.u8.slice(values, values + count * valueStride),
    };
    parts.push(seen ? unseen(part, keySize, valueStride, seen) : part);
    if (count < room) return joined(parts);
    left -= 1;
    if (left > 0) continue;
    throw new TailraceError('conflict', `map ${name}: keys come and go faster than they can be read`, {
      hint: 'read it while less is written',
    });
  }
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

function joined(parts: readonly Batch[]): Batch {
  const [first] = parts;
  if (first && parts.length === 1) return first;
  return {
    count: parts.reduce((sum, { count }) => sum + count, 0),
    keys: concatenated(parts.map(({ keys }) => keys)),
    values: concatenated(parts.map(({ values }) => values)),
  };
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
