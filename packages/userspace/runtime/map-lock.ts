/**
 * Changing a map that several workers share: one at a time, under the map's lock. Who looks something up takes no lock: it
 * reads the sequence number before and after, and reads again where a change came between.
 */
import { MAP_LOCK, MAP_SHARED } from '../src/layout';
import { OWN_SEQUENCE } from './descriptor';

/** Tries before a thread sleeps, and for how long it does (ns): the holder may have lost its CPU. */
const SPINS = 128;
const SLEEP: i64 = 20000;

/** Waits until nobody else changes the map. */
export function lock_map(map: usize): void {
  if (!load<u32>(map, MAP_SHARED)) return;
  let spins = 0;
  while (atomic.cmpxchg<u32>(map, 0, 1, MAP_LOCK) !== 0) if (++spins > SPINS) atomic.wait<i32>(map + MAP_LOCK, 1, SLEEP);
}

export function unlock_map(map: usize): void {
  if (load<u32>(map, MAP_SHARED)) atomic.store<u32>(map, 0, MAP_LOCK);
}

/** What is read from here to `end_change` must be read again. Under the lock only. */
export function begin_change(map: usize): void {
  if (load<u32>(map, MAP_SHARED)) atomic.add<u32>(map, 1, OWN_SEQUENCE);
}

export function end_change(map: usize): void {
  if (load<u32>(map, MAP_SHARED)) atomic.add<u32>(map, 1, OWN_SEQUENCE);
}
