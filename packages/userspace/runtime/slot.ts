/**
 * Arrays whose slots are empty at first and hold 4 or 8 bytes: programs, maps, interfaces, CPUs, sockets. Only the engine
 * fills and empties them.
 */
import { MAP_KIND, MAP_MAX_ENTRIES, MAP_VALUE_SIZE } from '../src/layout';
import { OWN_PRESENT, value_at } from './descriptor';
import { E2BIG, EEXIST, EINVAL, ENOENT, EOVERFLOW } from './errno';
import { KIND_ARRAY_OF_MAPS, KIND_CPUMAP, KIND_DEVMAP, KIND_PROGRAM_ARRAY } from './kind';
import { lock_map, unlock_map } from './map-lock';
import { EXIST, NOEXIST } from './update-flag';

/** Most packets that a CPU's queue may hold (cpu_map_update_elem). */
const QUEUE_LIMIT: u32 = 16384;

/** Address of what a slot holds, 0 where it is empty or beyond the end. */
export function slot_lookup(map: usize, key: usize): usize {
  const index = load<u32>(key);
  if (index >= load<u32>(map, MAP_MAX_ENTRIES)) return 0;
  return atomic.load<u8>(load<u32>(map, OWN_PRESENT) + index) ? value_at(map, index, 0) : 0;
}

/** Interface 0 and a queue of no packets empty their slot, as in the kernel. */
export function slot_update(map: usize, key: usize, value: usize, flags: u64): i64 {
  if (flags > EXIST) return EINVAL;
  const index = load<u32>(key);
  if (index >= load<u32>(map, MAP_MAX_ENTRIES)) return E2BIG;
  const kind = load<u32>(map, MAP_KIND);
  const size = load<u32>(map, MAP_VALUE_SIZE);
  if (kind === KIND_CPUMAP && load<u32>(value) > QUEUE_LIMIT) return EOVERFLOW;
  // The second word names a program by its descriptor, and there are none of those here.
  if ((kind === KIND_CPUMAP || kind === KIND_DEVMAP) && size === 8 && load<i32>(value, 4) > 0) return EINVAL;
  lock_map(map);
  const result = put(map, kind, index, value, flags);
  unlock_map(map);
  return result;
}

function put(map: usize, kind: u32, index: u32, value: usize, flags: u64): i64 {
  const present = load<u32>(map, OWN_PRESENT) + index;
  const isThere = load<u8>(present);
  if (isThere && flags === NOEXIST) return EEXIST;
  if (!isThere && flags === EXIST) return ENOENT;
  if ((kind === KIND_CPUMAP || kind === KIND_DEVMAP) && load<u32>(value) === 0) {
    empty(map, index);
    return 0;
  }
  const slot = value_at(map, index, 0);
  // One store, so that no worker sees half of it.
  if (load<u32>(map, MAP_VALUE_SIZE) === 8) atomic.store<u64>(slot, u64(load<u32>(value)));
  else atomic.store<u32>(slot, load<u32>(value));
  atomic.store<u8>(present, 1);
  return 0;
}

export function slot_delete(map: usize, key: usize): i64 {
  const index = load<u32>(key);
  if (index >= load<u32>(map, MAP_MAX_ENTRIES)) {
    const kind = load<u32>(map, MAP_KIND);
    return kind === KIND_PROGRAM_ARRAY || kind === KIND_ARRAY_OF_MAPS ? E2BIG : EINVAL;
  }
  if (!load<u8>(load<u32>(map, OWN_PRESENT) + index)) return ENOENT;
  lock_map(map);
  empty(map, index);
  unlock_map(map);
  return 0;
}

/** The value goes too: in an array of maps a 0 is what says that there is none. */
function empty(map: usize, index: u32): void {
  atomic.store<u8>(load<u32>(map, OWN_PRESENT) + index, 0);
  atomic.store<u32>(value_at(map, index, 0), 0);
}
