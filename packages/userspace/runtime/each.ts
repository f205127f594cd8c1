/** bpf_for_each_map_elem: entry by entry, by a cursor that what a callback does to the map cannot harm. Not for use within itself. */
import {
  EACH_KEY_LIMIT,
  MAP_KEY_SIZE,
  MAP_KIND,
  MAP_MAX_ENTRIES,
  REGION_BASE,
  REGION_COUNT,
  REGION_LENGTH,
  REGION_READ_ONLY,
  REGION_SIZE,
  REGION_STRIDE,
  TAG_KEY,
  WORKER_CPU,
  WORKER_EACH_KEY,
  WORKER_REGIONS,
} from '../src/layout';
import { value_at } from './descriptor';
import { EBUSY, EINVAL } from './errno';
import { ELEMENT_KEY, hash_next, hash_value } from './hash';
import { KIND_ARRAY, KIND_PER_CPU_ARRAY } from './kind';

function is_array(map: usize): bool {
  const kind = load<u32>(map, MAP_KIND);
  return kind == KIND_ARRAY || kind == KIND_PER_CPU_ARRAY;
}

/** Begins: 0, or a negated errno. From here on the key is a region. */
export function each_begin(worker: usize, map: usize, flags: u64): i64 {
  const row = worker + WORKER_REGIONS + TAG_KEY * REGION_SIZE;
  const size = load<u32>(map, MAP_KEY_SIZE);
  if (flags || size > <u32>EACH_KEY_LIMIT) return EINVAL;
  if (load<u32>(row, REGION_BASE)) return EBUSY;
  store<u32>(row, <u32>worker + WORKER_EACH_KEY, REGION_BASE);
  store<u32>(row, size, REGION_LENGTH);
  store<u32>(row, 0, REGION_STRIDE);
  store<u32>(row, 1 | REGION_READ_ONLY, REGION_COUNT);
  return 0;
}

/** The cursor of the entry behind that of another (0: the first one's), whose key is laid out; 0 where there is none. */
export function each_next(worker: usize, map: usize, cursor: u32): u32 {
  const key = worker + WORKER_EACH_KEY;
  if (is_array(map)) {
    if (cursor >= load<u32>(map, MAP_MAX_ENTRIES)) return 0;
    store<u32>(key, cursor);
    return cursor + 1;
  }
  const element = hash_next(map, cursor);
  if (element) memory.copy(key, element + ELEMENT_KEY, load<u32>(map, MAP_KEY_SIZE));
  return <u32>element;
}

/** Address of this CPU's value of the entry at a cursor. */
export function each_value(worker: usize, map: usize, cursor: u32): usize {
  const cpu = load<u32>(worker + WORKER_CPU);
  return is_array(map) ? value_at(map, cursor - 1, cpu) : hash_value(map, cursor, cpu);
}

/** Ends: the key is no region any more. */
export function each_end(worker: usize): void {
  store<u32>(worker + WORKER_REGIONS + TAG_KEY * REGION_SIZE, 0, REGION_BASE);
  store<u32>(worker + WORKER_REGIONS + TAG_KEY * REGION_SIZE, 0, REGION_LENGTH);
}
