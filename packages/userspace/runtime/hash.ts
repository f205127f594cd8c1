/**
 * Hash tables: buckets with chains of elements, which are taken and given back one by one and never move. Links are addresses.
 * Once all elements are taken, an LRU hash takes one that was not asked for in a while: a hand goes round them, and passes
 * over each as often as it was asked for since the hand last came by, three times at most (the clock, with counts).
 *
 *     element: [ next in the chain: u32 | part of the hash: u16 | used: u8 | uses: u8 | key, rounded up to 8 | tail ]
 *     tail:    the value; of per-CPU kinds the address of the first CPU's value, which lies elsewhere
 */
import { MAP_COUNT, MAP_KEY_SIZE, MAP_SHARED } from '../src/layout';
import { equal_bytes, equal_shared, hash_any, hash4, hash8, hash16 } from './bytes';
import {
  OWN_BUCKET_SHIFT,
  OWN_BUCKETS,
  OWN_CPU_STRIDE,
  OWN_ELEMENT_STRIDE,
  OWN_ELEMENTS,
  OWN_ELEMENTS_END,
  OWN_FREE,
  OWN_FRESH,
  OWN_HAND,
  OWN_LRU,
  OWN_SEED,
  OWN_SEQUENCE,
  OWN_TAIL,
  value_at,
  write_values,
} from './descriptor';
import { E2BIG, EEXIST, EINVAL, ENOENT } from './errno';
import { begin_change, end_change, lock_map, unlock_map } from './map-lock';
import { EXIST, NOEXIST } from './update-flag';

const NEXT = 0;
const TAG = 4;
const USED = 6;
const USES = 7;
export const ELEMENT_KEY = 8;

/** Reads between two looks at the sequence number in a chain, and how often a look-up starts over before it takes the lock. */
const HOPS: u32 = 32;
const ATTEMPTS = 16;

/** Uses that are counted, and elements that are looked at for one to evict: then the one with the fewest uses is. */
const USES_LIMIT: u8 = 3;
const SCANS = 1024;

function bucket_of(map: usize, hash: u32): usize {
  return load<u32>(map, OWN_BUCKETS) + ((hash >> load<u32>(map, OWN_BUCKET_SHIFT)) << 2);
}

/** Address of a CPU's value of an element. */
function value_of(map: usize, element: usize, cpu: u32): usize {
  const tail = element + load<u32>(map, OWN_TAIL);
  const stride = load<u32>(map, OWN_CPU_STRIDE);
  return stride ? usize(load<u32>(tail)) + cpu * stride : tail;
}

/** As `value_of`, for a program: it is a use. Writes only what changes, for other CPUs' caches. */
function use(map: usize, element: usize, cpu: u32): usize {
  if (load<u32>(map, OWN_LRU)) count_use(element);
  return value_of(map, element, cpu);
}

function count_use(element: usize): void {
  const uses = load<u8>(element, USES);
  if (uses < USES_LIMIT) store<u8>(element, uses + 1, USES);
}

// --- look-ups by programs

/** Address of a CPU's value, 0 where there is none: for keys of 4 bytes, and below of 8, of 16 and of any size. */
export function hash_lookup4(map: usize, key: usize, cpu: u32): usize {
  if (load<u32>(map, MAP_SHARED)) return lookup_shared(map, key, cpu);
  const wanted = load<u32>(key);
  let element: usize = load<u32>(bucket_of(map, hash4(wanted, load<u64>(map, OWN_SEED))));
  while (element) {
    if (load<u32>(element, ELEMENT_KEY) === wanted) return use(map, element, cpu);
    element = load<u32>(element, NEXT);
  }
  return 0;
}

export function hash_lookup8(map: usize, key: usize, cpu: u32): usize {
  if (load<u32>(map, MAP_SHARED)) return lookup_shared(map, key, cpu);
  const wanted = load<u64>(key);
  let element: usize = load<u32>(bucket_of(map, hash8(wanted, load<u64>(map, OWN_SEED))));
  while (element) {
    if (load<u64>(element, ELEMENT_KEY) === wanted) return use(map, element, cpu);
    element = load<u32>(element, NEXT);
  }
  return 0;
}

export function hash_lookup16(map: usize, key: usize, cpu: u32): usize {
  if (load<u32>(map, MAP_SHARED)) return lookup_shared(map, key, cpu);
  const low = load<u64>(key);
  const high = load<u64>(key, 8);
  let element: usize = load<u32>(bucket_of(map, hash16(low, high, load<u64>(map, OWN_SEED))));
  while (element) {
    if (((load<u64>(element, ELEMENT_KEY) ^ low) | (load<u64>(element, ELEMENT_KEY + 8) ^ high)) === 0) return use(map, element, cpu);
    element = load<u32>(element, NEXT);
  }
  return 0;
}

export function hash_lookup_any(map: usize, key: usize, cpu: u32): usize {
  if (load<u32>(map, MAP_SHARED)) return lookup_shared(map, key, cpu);
  const element = find(map, key);
  return element ? use(map, element, cpu) : 0;
}

/** As the one of these that fits the map. */
export function hash_lookup(map: usize, key: usize, cpu: u32): usize {
  const size = load<u32>(map, MAP_KEY_SIZE);
  if (size === 4) return hash_lookup4(map, key, cpu);
  if (size === 8) return hash_lookup8(map, key, cpu);
  if (size === 16) return hash_lookup16(map, key, cpu);
  return hash_lookup_any(map, key, cpu);
}

function lookup_shared(map: usize, key: usize, cpu: u32): usize {
  const element = find_shared(map, key);
  return element ? use(map, element, cpu) : 0;
}

/** Address of the first CPU's value, 0 where there is none. Not a use of the entry. */
export function hash_entry(map: usize, key: usize): usize {
  const element = load<u32>(map, MAP_SHARED) ? find_shared(map, key) : find(map, key);
  return element ? value_of(map, element, 0) : 0;
}

// --- elements of keys, 0 where there is none

function find(map: usize, key: usize): usize {
  const size = load<u32>(map, MAP_KEY_SIZE);
  return find_hashed(map, key, size, hash_any(key, size, load<u64>(map, OWN_SEED)));
}

function find_hashed(map: usize, key: usize, size: u32, hash: u32): usize {
  let element: usize = load<u32>(bucket_of(map, hash));
  while (element) {
    if (load<u16>(element, TAG) === u16(hash) && equal_bytes(element + ELEMENT_KEY, key, size)) break;
    element = load<u32>(element, NEXT);
  }
  return element;
}

/** While others may change the table. */
function find_shared(map: usize, key: usize): usize {
  const size = load<u32>(map, MAP_KEY_SIZE);
  const hash = hash_any(key, size, load<u64>(map, OWN_SEED));
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = atomic.load<u32>(map, OWN_SEQUENCE);
    if (before & 1) continue;
    const element = chase(map, key, size, hash, before);
    if (atomic.load<u32>(map, OWN_SEQUENCE) === before) return element;
  }
  lock_map(map);
  const element = find_hashed(map, key, size, hash);
  unlock_map(map);
  return element;
}

/** A chain that changes meanwhile may lead anywhere among the elements, also in a circle. */
function chase(map: usize, key: usize, size: u32, hash: u32, before: u32): usize {
  let element: usize = atomic.load<u32>(bucket_of(map, hash));
  for (let hops: u32 = 1; element; hops++) {
    if (equal_shared(element + ELEMENT_KEY, key, size)) break;
    element = atomic.load<u32>(element, NEXT);
    if (hops % HOPS === 0 && atomic.load<u32>(map, OWN_SEQUENCE) !== before) break;
  }
  return element;
}

// --- changes

export function hash_update(map: usize, key: usize, value: usize, flags: u64, cpu: u32): i64 {
  if (flags > EXIST) return EINVAL;
  lock_map(map);
  const result = put(map, key, value, flags, cpu);
  unlock_map(map);
  return result;
}

export function hash_delete(map: usize, key: usize): i64 {
  const size = load<u32>(map, MAP_KEY_SIZE);
  const hash = hash_any(key, size, load<u64>(map, OWN_SEED));
  lock_map(map);
  const element = find_hashed(map, key, size, hash);
  if (element) {
    begin_change(map);
    unlink(map, element, hash);
    store<u32>(element, load<u32>(map, OWN_FREE), NEXT);
    store<u32>(map, u32(element), OWN_FREE);
    end_change(map);
  }
  unlock_map(map);
  return element ? 0 : ENOENT;
}

/** The element that is in use behind one (behind the start for 0); 0 where there is none. Elements stay where they are. */
export function hash_next(map: usize, element: usize): usize {
  const stride = load<u32>(map, OWN_ELEMENT_STRIDE);
  const fresh = load<u32>(map, OWN_FRESH);
  for (let next: usize = element ? element + stride : load<u32>(map, OWN_ELEMENTS); next < fresh; next += stride)
    if (load<u8>(next, USED)) return next;
  return 0;
}

/** Address of a CPU's value of an element that is in use. */
export function hash_value(map: usize, element: usize, cpu: u32): usize {
  return value_of(map, element, cpu);
}

/**
 * Keys in the order of their elements, so that entries which stay keep their order. A key that is not there comes before the
 * first. Under the lock.
 */
export function hash_next_key(map: usize, key: usize, out: usize): i32 {
  const stride = load<u32>(map, OWN_ELEMENT_STRIDE);
  const fresh = load<u32>(map, OWN_FRESH);
  const last: usize = key ? find(map, key) : 0;
  for (let element: usize = last ? last + stride : load<u32>(map, OWN_ELEMENTS); element < fresh; element += stride) {
    if (!load<u8>(element, USED)) continue;
    memory.copy(out, element + ELEMENT_KEY, load<u32>(map, MAP_KEY_SIZE));
    return 0;
  }
  return i32(ENOENT);
}

/** Under the lock, as all below. */
function put(map: usize, key: usize, value: usize, flags: u64, cpu: u32): i64 {
  const size = load<u32>(map, MAP_KEY_SIZE);
  const hash = hash_any(key, size, load<u64>(map, OWN_SEED));
  const found = find_hashed(map, key, size, hash);
  if (found) {
    if (flags === NOEXIST) return EEXIST;
    count_use(found);
    write_values(map, value_of(map, found, 0), value, cpu, false);
    return 0;
  }
  if (flags === EXIST) return ENOENT;
  begin_change(map);
  const element = take(map);
  if (element) insert(map, element, key, size, hash, value, cpu);
  end_change(map);
  return element ? 0 : E2BIG;
}

function insert(map: usize, element: usize, key: usize, size: u32, hash: u32, value: usize, cpu: u32): void {
  const bucket = bucket_of(map, hash);
  // The key first: both may lie in what the element held before.
  memory.copy(element + ELEMENT_KEY, key, size);
  write_values(map, value_of(map, element, 0), value, cpu, true);
  store<u32>(element, load<u32>(bucket), NEXT);
  store<u16>(element, u16(hash), TAG);
  store<u8>(element, 1, USED);
  store<u8>(element, 0, USES);
  store<u32>(bucket, u32(element));
  store<u32>(map, load<u32>(map, MAP_COUNT) + 1, MAP_COUNT);
}

/** An element that nothing is in, 0 where all are taken and none may be evicted. */
function take(map: usize): usize {
  const free: usize = load<u32>(map, OWN_FREE);
  if (free) {
    store<u32>(map, load<u32>(free, NEXT), OWN_FREE);
    return free;
  }
  const fresh: usize = load<u32>(map, OWN_FRESH);
  if (fresh < load<u32>(map, OWN_ELEMENTS_END)) {
    const stride = load<u32>(map, OWN_ELEMENT_STRIDE);
    store<u32>(map, u32(fresh + stride), OWN_FRESH);
    // Values that lie elsewhere are found by this from here on.
    if (load<u32>(map, OWN_CPU_STRIDE)) {
      store<u32>(fresh + load<u32>(map, OWN_TAIL), u32(value_at(map, u32(fresh - load<u32>(map, OWN_ELEMENTS)) / stride, 0)));
    }
    return fresh;
  }
  return load<u32>(map, OWN_LRU) ? evict(map) : 0;
}

/** Takes an element out of its chain. */
function unlink(map: usize, element: usize, hash: u32): void {
  let place = bucket_of(map, hash);
  while (load<u32>(place) !== u32(element)) place = load<u32>(place) + NEXT;
  store<u32>(place, load<u32>(element, NEXT));
  store<u8>(element, 0, USED);
  store<u32>(map, load<u32>(map, MAP_COUNT) - 1, MAP_COUNT);
}

function evict(map: usize): usize {
  const stride = load<u32>(map, OWN_ELEMENT_STRIDE);
  const end = load<u32>(map, OWN_ELEMENTS_END);
  let hand: usize = load<u32>(map, OWN_HAND);
  let victim: usize = 0;
  let fewest = USES_LIMIT + 1;
  for (let scans = 0; scans < SCANS && fewest > 0; scans++) {
    hand += stride;
    if (hand >= end) hand = load<u32>(map, OWN_ELEMENTS);
    const uses = load<u8>(hand, USES);
    if (uses < fewest) {
      fewest = uses;
      victim = hand;
    }
    if (uses > 0) store<u8>(hand, uses - 1, USES);
  }
  store<u32>(map, u32(hand), OWN_HAND);
  const size = load<u32>(map, MAP_KEY_SIZE);
  unlink(map, victim, hash_any(victim + ELEMENT_KEY, size, load<u64>(map, OWN_SEED)));
  return victim;
}
