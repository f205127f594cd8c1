/** Arrays, shared and for each CPU: every index is there from the start, and stays. */
import { MAP_ENTRY_STRIDE, MAP_MAX_ENTRIES, MAP_VALUES } from '../src/layout';
import { OWN_CPU_STRIDE, value_at, write_values } from './descriptor';
import { E2BIG, EEXIST, EINVAL, ENOENT } from './errno';
import { EXIST, LOCK, NOEXIST } from './update-flag';

/** Address of a CPU's value, 0 beyond the end. */
export function array_lookup(map: usize, key: usize, cpu: u32): usize {
  const index = load<u32>(key);
  if (index >= load<u32>(map, MAP_MAX_ENTRIES)) return 0;
  return load<u32>(map, MAP_VALUES) + index * load<u32>(map, MAP_ENTRY_STRIDE) + cpu * load<u32>(map, OWN_CPU_STRIDE);
}

export function array_update(map: usize, key: usize, value: usize, flags: u64, cpu: u32): i64 {
  if ((flags & ~LOCK) > EXIST) return EINVAL;
  const index = load<u32>(key);
  if (index >= load<u32>(map, MAP_MAX_ENTRIES)) return E2BIG;
  if (flags & NOEXIST) return EEXIST;
  if (flags & LOCK) return EINVAL;
  write_values(map, value_at(map, index, 0), value, cpu, false);
  return 0;
}

/** Whatever is no index comes before the first. */
export function array_next_key(map: usize, key: usize, out: usize): i32 {
  const entries = load<u32>(map, MAP_MAX_ENTRIES);
  const index = key === 0 ? entries : load<u32>(key);
  if (index === entries - 1) return i32(ENOENT);
  store<u32>(out, index >= entries ? 0 : index + 1);
  return 0;
}
