/** What a simulated program sees of a map: the methods of its kind, over a simulated map. */
import { isMapOfMaps, type UpdateFlag } from '@tailrace/bpf';
import type { MemoryRing } from '@tailrace/pipeline';
import type { AnyMap } from '@tailrace/stage';
import { bytesOf, refTo, SimulationError } from './live-view.ts';
import type { SimulatedMap } from './simulated-map.ts';
import type { SimulatedStore } from './simulated-store.ts';

/** The program's side of a map that has methods. */
export function programMap(map: AnyMap, simulated: SimulatedMap): object {
  if (simulated.store) return map.type === 'bloomFilter' ? filter(map, simulated.store) : values(map, simulated.store);
  if (simulated.ring) return records(map, simulated.ring);
  const key = (value: unknown): Uint8Array => bytesOf((map.key ?? map.value).layout, value);
  if (isMapOfMaps(map.type)) return maps(map, simulated, key);
  const lookup = (wanted: unknown): unknown => {
    const found = simulated.reference(key(wanted));
    return found && inPlace(map, found);
  };
  if (map.type === 'array' || map.type === 'perCpuArray')
    return Object.freeze({ lookup: (index: unknown) => (isIndex(index) ? lookup(index) : undefined) });
  return Object.freeze({
    lookup,
    update(wanted: unknown, value: unknown, flag?: UpdateFlag): boolean {
      const bytes = new Uint8Array(simulated.valueStride);
      bytes.set(bytesOf(map.value.layout, value));
      return simulated.tryUpdate(key(wanted), bytes, flag) === 'written';
    },
    delete: (wanted: unknown): boolean => simulated.delete(key(wanted)),
  });
}

function maps({ type, inner }: AnyMap, simulated: SimulatedMap, key: (value: unknown) => Uint8Array): object {
  return Object.freeze({
    lookup(wanted: unknown): object | undefined {
      if (type === 'arrayOfMaps') isIndex(wanted);
      const found = simulated.inner(key(wanted));
      return inner && found && programMap(inner, found);
    },
  });
}

function values(map: AnyMap, store: SimulatedStore): object {
  const copied = (bytes: Uint8Array | undefined): unknown => bytes && inPlace(map, bytes);
  return Object.freeze({
    push: (value: unknown, flag?: UpdateFlag): boolean => store.push(bytesOf(map.value.layout, value), flag === 'exist'),
    pop: (): unknown => copied(store.pop()),
    peek: (): unknown => copied(store.peek()),
  });
}

function records({ value: { layout } }: AnyMap, ring: MemoryRing): object {
  return Object.freeze({ output: (value: unknown): boolean => ring.output(bytesOf(layout, value)) });
}

function filter({ value: { layout } }: AnyMap, store: SimulatedStore): object {
  return Object.freeze({
    add(value: unknown): void {
      store.push(bytesOf(layout, value));
    },
    has: (value: unknown): boolean => store.has(bytesOf(layout, value)),
  });
}

function inPlace({ value }: AnyMap, bytes: Uint8Array): unknown {
  return refTo(value.layout, { memory: new DataView(bytes.buffer, bytes.byteOffset, bytes.length), offset: 0 });
}

function isIndex(index: unknown): boolean {
  if (typeof index !== 'number' || !Number.isInteger(index) || index < 0 || index > 0xffff_ffff)
    throw new SimulationError(`an array is asked for ${String(index)}, expected 32 unsigned bits`);
  return true;
}
