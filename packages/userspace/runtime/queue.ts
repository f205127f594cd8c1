/** Queues and stacks: values in a circle, from the oldest on. Programs get copies. */
import { MAP_COUNT, MAP_KIND, MAP_MAX_ENTRIES, MAP_VALUE_SIZE } from '../src/layout';
import { OWN_OLDEST, value_at } from './descriptor';
import { E2BIG, EINVAL, ENOENT } from './errno';
import { KIND_STACK } from './kind';
import { lock_map, unlock_map } from './map-lock';
import { EXIST, NOEXIST } from './update-flag';

/** EXIST: in the place of the oldest where it is full. */
export function queue_push(map: usize, value: usize, flags: u64): i64 {
  if (flags & NOEXIST || flags > EXIST) return EINVAL;
  lock_map(map);
  const result = push(map, value, flags === EXIST);
  unlock_map(map);
  return result;
}

/** Takes the next value out; where there is none, `value` is zeroed. */
export function queue_pop(map: usize, value: usize): i64 {
  lock_map(map);
  const result = take(map, value, true);
  unlock_map(map);
  return result;
}

/** As `queue_pop`, and leaves it in. */
export function queue_peek(map: usize, value: usize): i64 {
  lock_map(map);
  const result = take(map, value, false);
  unlock_map(map);
  return result;
}

function push(map: usize, value: usize, mayReplace: bool): i64 {
  const size = load<u32>(map, MAP_MAX_ENTRIES);
  let count = load<u32>(map, MAP_COUNT);
  if (count === size) {
    if (!mayReplace) return E2BIG;
    dropOldest(map, size);
    count--;
  }
  memory.copy(place(map, count, size), value, load<u32>(map, MAP_VALUE_SIZE));
  store<u32>(map, count + 1, MAP_COUNT);
  return 0;
}

function take(map: usize, value: usize, out: bool): i64 {
  const bytes = load<u32>(map, MAP_VALUE_SIZE);
  const size = load<u32>(map, MAP_MAX_ENTRIES);
  const count = load<u32>(map, MAP_COUNT);
  if (count === 0) {
    memory.fill(value, 0, bytes);
    return ENOENT;
  }
  const isStack = load<u32>(map, MAP_KIND) === KIND_STACK;
  memory.copy(value, place(map, isStack ? count - 1 : 0, size), bytes);
  if (!out) return 0;
  if (isStack) store<u32>(map, count - 1, MAP_COUNT);
  else dropOldest(map, size);
  return 0;
}

function dropOldest(map: usize, size: u32): void {
  const oldest = load<u32>(map, OWN_OLDEST) + 1;
  store<u32>(map, oldest === size ? 0 : oldest, OWN_OLDEST);
  store<u32>(map, load<u32>(map, MAP_COUNT) - 1, MAP_COUNT);
}

/** Where the value is that came in so many after the oldest. */
function place(map: usize, after: u32, size: u32): usize {
  const index = u64(load<u32>(map, OWN_OLDEST)) + after;
  return value_at(map, u32(index >= size ? index - size : index), 0);
}
