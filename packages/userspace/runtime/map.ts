/**
 * Maps of every kind: how much memory one takes, how it starts, and each operation by kind. Programs whose map is known call
 * the kind's own functions.
 */
import {
  MAP_CPUS,
  MAP_ENTRY_STRIDE,
  MAP_KEY_SIZE,
  MAP_KIND,
  MAP_MAX_ENTRIES,
  MAP_VALUE_SIZE,
  MAP_VALUE_STRIDE,
  MAP_VALUES,
} from '../src/layout';
import { array_lookup, array_next_key, array_update } from './array';
import { bloom_bits, bloom_peek, bloom_push } from './bloom';
import {
  ALL_CPUS,
  align8,
  OWN_BIT_MASK,
  OWN_BITS,
  OWN_BUCKET_SHIFT,
  OWN_BUCKETS,
  OWN_CPU_STRIDE,
  OWN_DATA,
  OWN_ELEMENT_STRIDE,
  OWN_ELEMENTS,
  OWN_ELEMENTS_END,
  OWN_FRESH,
  OWN_FRESH_FORK,
  OWN_GIVEN,
  OWN_HAND,
  OWN_HASHES,
  OWN_LRU,
  OWN_MAX_PREFIX,
  OWN_PRESENT,
  OWN_SEED,
  OWN_TAIL,
  read_values,
} from './descriptor';
import { EINVAL, ENOTSUPP, EOPNOTSUPP } from './errno';
import { ELEMENT_KEY, hash_delete, hash_entry, hash_lookup, hash_next_key, hash_update } from './hash';
import {
  is_lru,
  is_per_cpu,
  KIND_ARRAY,
  KIND_ARRAY_OF_MAPS,
  KIND_BLOOM_FILTER,
  KIND_CPUMAP,
  KIND_DEVMAP,
  KIND_DEVMAP_HASH,
  KIND_HASH,
  KIND_HASH_OF_MAPS,
  KIND_LPM_TRIE,
  KIND_LRU_HASH,
  KIND_LRU_PER_CPU_HASH,
  KIND_PER_CPU_ARRAY,
  KIND_PER_CPU_HASH,
  KIND_PERF_EVENT_ARRAY,
  KIND_PROGRAM_ARRAY,
  KIND_QUEUE,
  KIND_RING_BUFFER,
  KIND_SOCKHASH,
  KIND_SOCKMAP,
  KIND_STACK,
  KIND_XSKMAP,
} from './kind';
import { lpm_delete, lpm_lookup, lpm_next_key, lpm_update, NODE_DATA } from './lpm';
import { lock_map, unlock_map } from './map-lock';
import { queue_peek, queue_pop, queue_push } from './queue';
import { slot_delete, slot_lookup, slot_update } from './slot';

/** What kinds are like, apart from their names. */
const ARRAY = 0;
const SLOTS = 1;
const HASH = 2;
const LPM = 3;
const QUEUE = 4;
const BLOOM = 5;
const RING = 6;
const UNKNOWN = 7;

function family(map: usize): i32 {
  switch (load<u32>(map, MAP_KIND)) {
    case KIND_ARRAY:
    case KIND_PER_CPU_ARRAY:
      return ARRAY;
    case KIND_HASH:
    case KIND_PER_CPU_HASH:
    case KIND_HASH_OF_MAPS:
    case KIND_DEVMAP_HASH:
    case KIND_SOCKHASH:
    case KIND_LRU_HASH:
    case KIND_LRU_PER_CPU_HASH:
      return HASH;
    case KIND_LPM_TRIE:
      return LPM;
    case KIND_PROGRAM_ARRAY:
    case KIND_PERF_EVENT_ARRAY:
    case KIND_ARRAY_OF_MAPS:
    case KIND_DEVMAP:
    case KIND_CPUMAP:
    case KIND_XSKMAP:
    case KIND_SOCKMAP:
      return SLOTS;
    case KIND_QUEUE:
    case KIND_STACK:
      return QUEUE;
    case KIND_BLOOM_FILTER:
      return BLOOM;
    case KIND_RING_BUFFER:
      return RING;
    default:
      return UNKNOWN;
  }
}

// --- making a map

/** Buckets of a hash, as a power of two: two for each entry or more, so that most chains are no longer than one. */
function bucket_bits(entries: u32): u32 {
  return entries <= 1 ? 1 : 33 - clz<u32>(entries - 1);
}

/** Writes what follows from the sizes into a descriptor; `map_bytes` does it before all else. */
function measure(map: usize, kind: i32): void {
  const size = align8(load<u32>(map, MAP_VALUE_SIZE));
  const cpus = load<u32>(map, MAP_CPUS);
  // Values of several CPUs have cache lines of their own.
  const stride = cpus === 1 ? size : (size + 63) & ~63;
  const tail = ELEMENT_KEY + align8(load<u32>(map, MAP_KEY_SIZE));
  const isHash = kind === HASH;
  store<u32>(map, stride, MAP_VALUE_STRIDE);
  store<u32>(map, is_per_cpu(map) ? size : load<u32>(map, MAP_VALUE_SIZE), OWN_GIVEN);
  store<u32>(map, cpus === 1 ? 0 : stride, OWN_CPU_STRIDE);
  store<u32>(map, isHash && cpus === 1 ? tail + size : stride * cpus, MAP_ENTRY_STRIDE);
  if (isHash) {
    store<u32>(map, tail, OWN_TAIL);
    store<u32>(map, cpus === 1 ? tail + size : tail + 8, OWN_ELEMENT_STRIDE);
    store<u32>(map, is_lru(map) ? 1 : 0, OWN_LRU);
  }
  if (kind === LPM) store<u32>(map, (NODE_DATA + load<u32>(map, MAP_KEY_SIZE) - 4 + 7) & ~7, OWN_ELEMENT_STRIDE);
}

/**
 * Bytes of memory that a map takes beside its descriptor, of which the fields before MAP_VALUES, MAP_CPUS and MAP_SHARED are
 * filled in and the rest is zero. `extra`: hashes of a bloom filter.
 */
export function map_bytes(map: usize, extra: u32): f64 {
  const kind = family(map);
  measure(map, kind);
  const entries = f64(load<u32>(map, MAP_MAX_ENTRIES));
  const values = entries * f64(load<u32>(map, MAP_ENTRY_STRIDE));
  const elements = f64(load<u32>(map, OWN_ELEMENT_STRIDE));
  switch (kind) {
    case ARRAY:
    case QUEUE:
      return values;
    case SLOTS:
      return values + entries;
    case HASH:
      return (
        values + (load<u32>(map, MAP_CPUS) === 1 ? 0 : entries * elements) + f64(u64(4) << bucket_bits(load<u32>(map, MAP_MAX_ENTRIES)))
      );
    case LPM:
      return values + 2 * entries * elements;
    case BLOOM:
      return bloom_bits(map, extra) / 8;
    case RING:
      return 2 * entries;
    default:
      return 0;
  }
}

/** Starts a map in `bytes`, which `map_bytes` counted and which are zero. An address that 64 divides. */
export function map_init(map: usize, bytes: usize, extra: u32, seed: u64): void {
  const kind = family(map);
  const entries = load<u32>(map, MAP_MAX_ENTRIES);
  const elements = load<u32>(map, OWN_ELEMENT_STRIDE);
  const behind = bytes + entries * load<u32>(map, MAP_ENTRY_STRIDE);
  store<u32>(map, bytes, MAP_VALUES);
  store<u64>(map, seed, OWN_SEED);
  if (kind === SLOTS) {
    store<u32>(map, behind, OWN_PRESENT);
  } else if (kind === HASH) {
    const bits = bucket_bits(entries);
    const alone = load<u32>(map, MAP_CPUS) === 1;
    const first = alone ? bytes : behind;
    if (alone) store<u32>(map, bytes + load<u32>(map, OWN_TAIL), MAP_VALUES);
    store<u32>(map, first, OWN_ELEMENTS);
    store<u32>(map, first, OWN_FRESH);
    store<u32>(map, first - elements, OWN_HAND);
    store<u32>(map, first + entries * elements, OWN_ELEMENTS_END);
    store<u32>(map, first + entries * elements, OWN_BUCKETS);
    store<u32>(map, 32 - bits, OWN_BUCKET_SHIFT);
  } else if (kind === LPM) {
    store<u32>(map, behind - elements, OWN_ELEMENTS);
    store<u32>(map, entries, OWN_FRESH_FORK);
    store<u32>(map, (load<u32>(map, MAP_KEY_SIZE) - 4) * 8, OWN_MAX_PREFIX);
  } else if (kind === BLOOM) {
    store<u32>(map, bytes, OWN_BITS);
    store<u32>(map, u32(u64(bloom_bits(map, extra)) - 1), OWN_BIT_MASK);
    store<u32>(map, extra, OWN_HASHES);
  } else if (kind === RING) {
    store<u32>(map, bytes, OWN_DATA);
  }
}

// --- what programs call

/** Address of a CPU's value, 0 where there is none. Of a map of maps: the descriptor of the inner map. */
export function map_lookup(map: usize, key: usize, cpu: u32): usize {
  switch (family(map)) {
    case ARRAY:
      return array_lookup(map, key, cpu);
    case HASH:
      return load<u32>(map, MAP_KIND) === KIND_HASH_OF_MAPS ? inner_lookup(map, key) : hash_lookup(map, key, cpu);
    case LPM:
      return lpm_lookup(map, key);
    case SLOTS:
      return load<u32>(map, MAP_KIND) === KIND_ARRAY_OF_MAPS ? inner_lookup(map, key) : slot_lookup(map, key);
    default:
      return 0;
  }
}

/** Maps of maps: the descriptor of the map under a key, 0 where there is none. */
export function inner_lookup(map: usize, key: usize): usize {
  const slot = load<u32>(map, MAP_KIND) === KIND_ARRAY_OF_MAPS ? slot_lookup(map, key) : hash_lookup(map, key, 0);
  return slot === 0 ? 0 : atomic.load<u32>(slot);
}

/** 0, or a negated errno. */
export function map_update(map: usize, key: usize, value: usize, flags: u64, cpu: u32): i64 {
  switch (family(map)) {
    case ARRAY:
      return array_update(map, key, value, flags, cpu);
    case HASH:
      return hash_update(map, key, value, flags, cpu);
    case LPM:
      return lpm_update(map, key, value, flags);
    case SLOTS:
      return slot_update(map, key, value, flags);
    case RING:
      return ENOTSUPP;
    default:
      return EINVAL;
  }
}

export function map_delete(map: usize, key: usize): i64 {
  switch (family(map)) {
    case HASH:
      return hash_delete(map, key);
    case LPM:
      return lpm_delete(map, key);
    case SLOTS:
      return slot_delete(map, key);
    case BLOOM:
      return EOPNOTSUPP;
    case RING:
      return ENOTSUPP;
    default:
      return EINVAL;
  }
}

export function map_push(map: usize, value: usize, flags: u64): i64 {
  const kind = family(map);
  if (kind === QUEUE) return queue_push(map, value, flags);
  return kind === BLOOM ? bloom_push(map, value, flags) : EOPNOTSUPP;
}

export function map_pop(map: usize, value: usize): i64 {
  return family(map) === QUEUE ? queue_pop(map, value) : EOPNOTSUPP;
}

/** Of a bloom filter: whether `value` may be in it, 0 or -ENOENT. */
export function map_peek(map: usize, value: usize): i64 {
  const kind = family(map);
  if (kind === QUEUE) return queue_peek(map, value);
  return kind === BLOOM ? bloom_peek(map, value) : EOPNOTSUPP;
}

// --- what handles call

/** Address of the first CPU's value, 0 where there is none; of a map of maps the place of the address. Not a use of the entry. */
export function map_entry(map: usize, key: usize): usize {
  switch (family(map)) {
    case ARRAY:
      return array_lookup(map, key, 0);
    case HASH:
      return hash_entry(map, key);
    case LPM:
      return lpm_lookup(map, key);
    case SLOTS:
      return slot_lookup(map, key);
    default:
      return 0;
  }
}

/** Copies the values of all CPUs to `out`, one behind the other (rounded up to 8 bytes for per-CPU kinds); 0 where there is no entry. */
export function map_read(map: usize, key: usize, out: usize): u32 {
  const first = map_entry(map, key);
  if (first === 0) return 0;
  read_values(map, first, out);
  return 1;
}

/** As `map_update` with the values of all CPUs, as `map_read` gives them. */
export function map_update_entry(map: usize, key: usize, values: usize, flags: u32): i32 {
  return i32(map_update(map, key, values, u64(flags), ALL_CPUS));
}

/** Writes the key after `key`, or the first where that is 0 or not there, to `out`; 0, or a negated errno. */
export function map_next_key(map: usize, key: usize, out: usize): i32 {
  lock_map(map);
  const result = next_key(map, key, out);
  unlock_map(map);
  return result;
}

function next_key(map: usize, key: usize, out: usize): i32 {
  switch (family(map)) {
    case ARRAY:
    case SLOTS:
      return array_next_key(map, key, out);
    case HASH:
      return hash_next_key(map, key, out);
    case LPM:
      return lpm_next_key(map, key, out);
    case BLOOM:
      return i32(EOPNOTSUPP);
    case RING:
      return i32(ENOTSUPP);
    default:
      return i32(EINVAL);
  }
}

/**
 * Copies at most `room` entries, those behind the key at `cursor`, or from the first on where `isFirst`; then the last one's
 * key is at `cursor`. Keys and values lie one behind the other. Returns how many: fewer than `room` where these were the last.
 */
export function map_copy(map: usize, cursor: usize, isFirst: u32, keys: usize, values: usize, room: u32): u32 {
  const keySize = load<u32>(map, MAP_KEY_SIZE);
  const valueBytes = load<u32>(map, MAP_CPUS) * load<u32>(map, OWN_GIVEN);
  let first = isFirst;
  let count: u32 = 0;
  lock_map(map);
  while (count < room && next_key(map, first ? 0 : cursor, cursor) === 0) {
    first = 0;
    const entry = map_entry(map, cursor);
    if (entry === 0) continue;
    memory.copy(keys + count * keySize, cursor, keySize);
    read_values(map, entry, values + count * valueBytes);
    count++;
  }
  unlock_map(map);
  return count;
}
