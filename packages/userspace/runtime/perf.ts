/**
 * Perf event arrays: while somebody reads, a slot has the ring of its CPU, laid out as the kernel's are (see
 * packages/bpf/src/perf-cursor.ts). Only that CPU writes to it, so that no lock is taken.
 */
import { MAP_MAX_ENTRIES, PERF_BYTES, PERF_DATA, PERF_HEAD, PERF_LOST, PERF_TAIL, PERF_UNTOLD, WORKER_CPU } from '../src/layout';
import { align8, value_at } from './descriptor';
import { E2BIG, EFAULT, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP } from './errno';
import { packet_data, packet_length } from './packet';
import { wake_reader } from './ring';

/** BPF_F_INDEX_MASK, which is BPF_F_CURRENT_CPU too, and BPF_F_CTXLEN_MASK. */
const INDEX: u64 = 0xffffffff;
const PACKET_BYTES: u64 = 0xfffff << 32;
/** PERF_RECORD_LOST and PERF_RECORD_SAMPLE, and what the first takes: a header, an id, a number. */
const LOST: u64 = 2;
const SAMPLE: u64 = 9;
const LOST_BYTES: u32 = 24;
/** A header and the length of what follows it. */
const HEADER: u32 = 12;
/** A header says a record's size in 16 bits. */
const RECORD_LIMIT: u64 = 0xffff;

/** bpf_perf_event_output: bytes that lie ready, and behind them as many of the packet as the flags say. */
export function perf_event_output(worker: usize, map: usize, flags: u64, data: usize, size: u64): i64 {
  if (flags & ~(INDEX | PACKET_BYTES)) return EINVAL;
  const packet = u32((flags & PACKET_BYTES) >> 32);
  if (packet > packet_length(worker)) return EFAULT;
  const cpu = load<u32>(worker, WORKER_CPU);
  const index = (flags & INDEX) === INDEX ? cpu : u32(flags);
  if (index >= load<u32>(map, MAP_MAX_ENTRIES)) return E2BIG;
  // an empty slot holds 0
  const ring: usize = load<u32>(value_at(map, index, 0));
  if (ring === 0) return ENOENT;
  if (index !== cpu) return EOPNOTSUPP;
  if (!put(ring, data, size, packet_data(worker), packet)) return ENOSPC;
  wake_reader(map);
  return 0;
}

function put(ring: usize, data: usize, size: u64, packet: usize, packetBytes: u32): bool {
  const wide = (u64(HEADER) + size + u64(packetBytes) + 7) & ~u64(7);
  const bytes = load<u32>(ring, PERF_BYTES);
  const untold = load<u64>(ring, PERF_UNTOLD);
  let head = load<u64>(ring, PERF_HEAD);
  const used = u32(head - atomic.load<u64>(ring, PERF_TAIL));
  const wanted = wide + (untold ? u64(LOST_BYTES) : 0);
  // as CIRC_SPACE has it, one byte stays free
  if (wide > RECORD_LIMIT || wanted > u64(bytes - 1 - used)) {
    store<u64>(ring, untold + 1, PERF_UNTOLD);
    store<u64>(ring, load<u64>(ring, PERF_LOST) + 1, PERF_LOST);
    return false;
  }
  if (untold) {
    word(ring, head, LOST | (u64(LOST_BYTES) << 48));
    word(ring, head + 8, 0);
    word(ring, head + 16, untold);
    store<u64>(ring, 0, PERF_UNTOLD);
    head += LOST_BYTES;
  }
  const total = u32(size) + packetBytes;
  word(ring, head, SAMPLE | (wide << 48));
  store<u32>(ring + PERF_DATA + (u32(head + 8) & (bytes - 1)), align8(total + 4) - 4);
  copy(ring, u32(head) + HEADER, data, u32(size));
  copy(ring, u32(head) + HEADER + u32(size), packet, packetBytes);
  atomic.store<u64>(ring, head + wide, PERF_HEAD);
  return true;
}

/** Positions of whole words are multiples of 8. */
function word(ring: usize, position: u64, value: u64): void {
  store<u64>(ring + PERF_DATA + (u32(position) & (load<u32>(ring, PERF_BYTES) - 1)), value);
}

/** Goes on at the ring's start where it reaches its end. */
function copy(ring: usize, position: u32, from: usize, count: u32): void {
  const bytes = load<u32>(ring, PERF_BYTES);
  const at = position & (bytes - 1);
  const first = min(count, bytes - at);
  memory.copy(ring + PERF_DATA + at, from, first);
  memory.copy(ring + PERF_DATA, from + first, count - first);
}
