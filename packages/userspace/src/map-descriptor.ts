/** What a map writes into the engine's tables: its descriptor, and the region that its values are. */
import { type MapSpec, MapType } from '@tailrace/bpf';
import {
  MAP_CPUS,
  MAP_ENTRY_STRIDE,
  MAP_FLAGS,
  MAP_KEY_SIZE,
  MAP_KIND,
  MAP_MAX_ENTRIES,
  MAP_SHARED,
  MAP_TABLE,
  MAP_TAG,
  MAP_VALUE_SIZE,
  MAP_VALUE_STRIDE,
  MAP_VALUES,
  REGION_BASE,
  REGION_COUNT,
  REGION_LENGTH,
  REGION_READ_ONLY,
  REGION_SIZE,
  REGION_STRIDE,
  REGION_TABLE,
} from './layout.ts';
import type { EngineMemory } from './memory.ts';
import { valueAccess } from './value-access.ts';

/** A map as it lies in memory. */
interface PlacedMap {
  readonly spec: MapSpec;
  /** Address of its descriptor. */
  readonly address: number;
  /** Tag of pointers to its values. */
  readonly tag: number;
}

/** Fills in what the runtime starts from. `cpus`: values of an entry. */
export function describeMap({ view }: EngineMemory, { spec, address, tag }: PlacedMap, cpus: number, isShared: boolean): void {
  const fields = [
    [MAP_KIND, MapType[spec.type]],
    [MAP_KEY_SIZE, spec.keySize],
    [MAP_VALUE_SIZE, spec.valueSize],
    [MAP_MAX_ENTRIES, spec.maxEntries],
    [MAP_FLAGS, spec.flags],
    [MAP_TAG, tag],
    [MAP_CPUS, cpus],
    [MAP_SHARED, isShared ? 1 : 0],
  ] as const;
  for (const [offset, value] of fields) view.setUint32(address + offset, value, true);
}

/** Says where the map is, and what pointers of its tag may touch, once the runtime has laid it out. */
export function writeRegion({ view }: EngineMemory, { spec, address, tag }: PlacedMap): void {
  view.setUint32(MAP_TABLE + 4 * tag, address, true);
  const access = valueAccess(spec);
  if (access === undefined) return;
  const field = (offset: number): number => view.getUint32(address + offset, true);
  const row = REGION_TABLE + tag * REGION_SIZE;
  const cpus = field(MAP_CPUS);
  view.setUint32(row + REGION_BASE, field(MAP_VALUES), true);
  view.setUint32(row + REGION_LENGTH, spec.valueSize, true);
  view.setUint32(row + REGION_STRIDE, field(cpus === 1 ? MAP_ENTRY_STRIDE : MAP_VALUE_STRIDE), true);
  view.setUint32(row + REGION_COUNT, spec.maxEntries * cpus + (access === 'read' ? REGION_READ_ONLY : 0), true);
}

/** Nothing is reached by the map's tag from here on. */
export function clearRegion({ u8, view }: EngineMemory, { tag }: Pick<PlacedMap, 'tag'>): void {
  const row = REGION_TABLE + tag * REGION_SIZE;
  u8.fill(0, row, row + REGION_SIZE);
  view.setUint32(MAP_TABLE + 4 * tag, 0, true);
}
