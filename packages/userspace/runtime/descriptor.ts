/**
 * The runtime's own fields of a map's descriptor, from MAP_OWN (64) on, and what every kind does with values. The first 64
 * bytes hold what stays after `map_init`, the last 64 what changes: workers that look things up keep the former in their
 * caches.
 */
import { MAP_CPUS, MAP_ENTRY_STRIDE, MAP_VALUE_SIZE, MAP_VALUE_STRIDE, MAP_VALUES } from '../src/layout';

/** Hashes: the first element. Tries: where node 0 would be; they count from 1, so that 0 is none. */
export const OWN_ELEMENTS = 64;
/** Bytes from element to element. */
export const OWN_ELEMENT_STRIDE = 68;
/** Hashes: one u32 a bucket, the first element of its chain. */
export const OWN_BUCKETS = 72;
/** Hashes: a bucket is what is left of a key's hash after so many bits are shifted out. */
export const OWN_BUCKET_SHIFT = 76;
/** u64, so that nobody knows which keys share a bucket. */
export const OWN_SEED = 80;
/** Bytes from one CPU's value to the next, 0 where all CPUs share one. */
export const OWN_CPU_STRIDE = 88;
/** Bytes of one CPU's value as handles give and take it: the value size, rounded up to 8 for per-CPU kinds. */
export const OWN_GIVEN = 120;
/** Slots: one byte each, 1 where something is in it. */
export const OWN_PRESENT = 92;
/** Bloom filters: the bits, how many there are less 1, and how many each value has. */
export const OWN_BITS = 96;
export const OWN_BIT_MASK = 100;
export const OWN_HASHES = 104;
/** Tries: bits of the longest prefix. */
export const OWN_MAX_PREFIX = 108;
/** Hashes: where the elements end, where an element's value or its address lies in it, and whether entries are evicted (0, 1). */
export const OWN_ELEMENTS_END = 96;
export const OWN_TAIL = 100;
export const OWN_LRU = 104;
/** Rings: the data. */
export const OWN_DATA = 96;
/** Rings and perf event arrays: 1 where the reader wants to be woken by the next record, and a number that rises when it is (u32 each). */
export const OWN_ARMED = 100;
export const OWN_WAKE = 104;
/** Rings: how far programs have come, u64. */
export const OWN_PRODUCER = 112;

/** Odd while chains or branches change; another number after each change. */
export const OWN_SEQUENCE = 128;
/** First of the elements or nodes that were given back; hashes: the first that was never given out; tries: the last that was. */
export const OWN_FREE = 132;
export const OWN_FRESH = 136;
/** LRU hashes: the element that was evicted last. */
export const OWN_HAND = 140;
/** Tries: the root, and what OWN_FREE and OWN_FRESH are for nodes without a value. */
export const OWN_ROOT = 144;
export const OWN_FREE_FORK = 148;
export const OWN_FRESH_FORK = 152;
/** Queues: the oldest element, from 0. */
export const OWN_OLDEST = 156;
/** Rings: how far the reader has come, u64. */
export const OWN_CONSUMER = 128;

/** A size rounded up to a multiple of 8. */
export function align8(bytes: u32): u32 {
  return (bytes + 7) & ~7;
}

/** The value of a CPU in the entry with this number, from 0. */
export function value_at(map: usize, entry: u32, cpu: u32): usize {
  return load<u32>(map, MAP_VALUES) + entry * load<u32>(map, MAP_ENTRY_STRIDE) + cpu * load<u32>(map, OWN_CPU_STRIDE);
}

/** `cpu` of `write_values` for values of all CPUs, one behind the other, each as many bytes as `OWN_GIVEN` says. */
export const ALL_CPUS: u32 = 0xffffffff;

/** Writes one CPU's value of an entry, whose first is given, or those of all. Of a new entry the other CPUs' values are zeroed. */
export function write_values(map: usize, first: usize, value: usize, cpu: u32, isNew: bool): void {
  const size = load<u32>(map, MAP_VALUE_SIZE);
  const cpus = load<u32>(map, MAP_CPUS);
  const stride = load<u32>(map, MAP_VALUE_STRIDE);
  const given = load<u32>(map, OWN_GIVEN);
  if (cpu === ALL_CPUS) {
    for (let i: u32 = 0; i < cpus; i++) memory.copy(first + i * stride, value + i * given, given);
  } else if (cpus === 1) {
    memory.copy(first, value, size);
  } else {
    memory.copy(first + cpu * stride, value, size);
    if (isNew) for (let i: u32 = 0; i < cpus; i++) if (i !== cpu) memory.fill(first + i * stride, 0, size);
  }
}

/** Copies the values of all CPUs out, one behind the other: as `write_values` takes them. */
export function read_values(map: usize, first: usize, out: usize): void {
  const cpus = load<u32>(map, MAP_CPUS);
  const stride = load<u32>(map, MAP_VALUE_STRIDE);
  const given = load<u32>(map, OWN_GIVEN);
  for (let i: u32 = 0; i < cpus; i++) memory.copy(out + i * given, first + i * stride, given);
}
