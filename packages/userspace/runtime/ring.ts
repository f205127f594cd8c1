/**
 * Ring buffers. Positions count bytes for ever; a record starts at its position modulo the ring's size, in memory of twice
 * that size, so that it never breaks off at the end:
 *
 *     record: [ length: u32, busy and discard as its top bits | the map: u32 | bytes, rounded up to 8 ]
 */
import { MAP_MAX_ENTRIES } from '../src/layout';
import { align8, OWN_ARMED, OWN_CONSUMER, OWN_DATA, OWN_PRODUCER, OWN_WAKE } from './descriptor';
import { EAGAIN, EINVAL } from './errno';
import { lock_map, unlock_map } from './map-lock';

const HEADER: u32 = 8;
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
/** BPF_RB_NO_WAKEUP and BPF_RB_FORCE_WAKEUP. A reader that waits has read everything, so that every record is news to it. */
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
/** RINGBUF_MAX_RECORD_SZ. */
const RECORD_LIMIT: u64 = 0x3fffffff;

/** Place for a record, 0 where there is none. */
export function ring_reserve(map: usize, size: u64, flags: u64): usize {
  const bytes = load<u32>(map, MAP_MAX_ENTRIES);
  if (flags !== 0 || size > RECORD_LIMIT) return 0;
  const length = align8(u32(size) + HEADER);
  if (length > bytes) return 0;
  lock_map(map);
  const producer = load<u64>(map, OWN_PRODUCER);
  const next = producer + u64(length);
  let sample: usize = 0;
  if (next - atomic.load<u64>(map, OWN_CONSUMER) < u64(bytes)) {
    const header = load<u32>(map, OWN_DATA) + (u32(producer) & (bytes - 1));
    store<u32>(header, u32(size) | BUSY);
    store<u32>(header, u32(map), 4);
    atomic.store<u64>(map, next, OWN_PRODUCER);
    sample = header + HEADER;
  }
  unlock_map(map);
  return sample;
}

/** Hands a record over to the reader, or tells it to pass it over. */
export function ring_commit(sample: usize, flags: u64, discard: i32): void {
  const header = sample - HEADER;
  const map: usize = load<u32>(header, 4);
  const length = load<u32>(header) & ~BUSY;
  atomic.store<u32>(header, discard ? length | DISCARD : length);
  if (!(flags & NO_WAKEUP)) wake_reader(map);
}

/** Wakes the reader of a map where it waits. */
export function wake_reader(map: usize): void {
  if (!atomic.load<u32>(map, OWN_ARMED)) return;
  atomic.store<u32>(map, 0, OWN_ARMED);
  atomic.add<u32>(map, 1, OWN_WAKE);
  atomic.notify(map + OWN_WAKE, 1);
}

/** A record of bytes that lie ready. */
export function ring_output(map: usize, data: usize, size: u64, flags: u64): i64 {
  if (flags & ~(NO_WAKEUP | FORCE_WAKEUP)) return EINVAL;
  const sample = ring_reserve(map, size, 0);
  if (sample === 0) return EAGAIN;
  memory.copy(sample, data, u32(size));
  ring_commit(sample, flags, 0);
  return 0;
}

/** BPF_RB_AVAIL_DATA, RING_SIZE, CONS_POS, PROD_POS; 0 for anything else. */
export function ring_query(map: usize, what: u64): u64 {
  const consumer = atomic.load<u64>(map, OWN_CONSUMER);
  const producer = atomic.load<u64>(map, OWN_PRODUCER);
  if (what === 0) return producer - consumer;
  if (what === 1) return u64(load<u32>(map, MAP_MAX_ENTRIES));
  if (what === 2) return consumer;
  return what === 3 ? producer : 0;
}

/** For the reader: where positions, flag and number are, and the data. */
export function ring_producer(map: usize): usize {
  return map + OWN_PRODUCER;
}
export function ring_consumer(map: usize): usize {
  return map + OWN_CONSUMER;
}
export function ring_armed(map: usize): usize {
  return map + OWN_ARMED;
}
export function ring_wake(map: usize): usize {
  return map + OWN_WAKE;
}
export function ring_data(map: usize): usize {
  return load<u32>(map, OWN_DATA);
}
