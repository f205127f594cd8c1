/** Records of ring buffers while a program writes them: each is a region of its own, until it is handed over. */
import {
  RECORD_LIMIT,
  REGION_BASE,
  REGION_COUNT,
  REGION_LENGTH,
  REGION_SIZE,
  REGION_STRIDE,
  TAG_RECORD,
  WORKER_REGIONS,
} from '../src/layout';
import { ring_commit, ring_reserve } from './ring';

/** bpf_ringbuf_reserve: a pointer to a fresh record of so many bytes; 0 where the ring is full, or RECORD_LIMIT are open. */
export function record_reserve(worker: usize, desc: usize, size: u64, flags: u64): u64 {
  const row = free_row(worker);
  if (!row) return 0;
  const sample = ring_reserve(desc, size, flags);
  if (!sample) return 0;
  store<u32>(row, <u32>sample, REGION_BASE);
  store<u32>(row, <u32>size, REGION_LENGTH);
  store<u32>(row, 0, REGION_STRIDE);
  store<u32>(row, 1, REGION_COUNT);
  return ((<u64>(row - worker - WORKER_REGIONS) / REGION_SIZE) << 32) | <u64>sample;
}

/** Ends a record's time as a region. Its address, or 0 where the pointer is that of no open record. */
export function record_close(worker: usize, pointer: u64): usize {
  const tag = <u32>(pointer >> 32);
  if (tag < <u32>TAG_RECORD || tag >= <u32>(TAG_RECORD + RECORD_LIMIT)) return 0;
  const row = worker + WORKER_REGIONS + tag * REGION_SIZE;
  const sample = load<u32>(row, REGION_BASE);
  if (!sample || sample != <u32>pointer) return 0;
  store<u32>(row, 0, REGION_BASE);
  store<u32>(row, 0, REGION_LENGTH);
  return sample;
}

/** Throws away what a run reserved and never handed over. */
export function record_close_all(worker: usize): void {
  for (let i: u32 = 0; i < <u32>RECORD_LIMIT; i++) {
    const row = worker + WORKER_REGIONS + (TAG_RECORD + i) * REGION_SIZE;
    const sample = load<u32>(row, REGION_BASE);
    if (!sample) continue;
    ring_commit(sample, 0, 1);
    store<u32>(row, 0, REGION_BASE);
    store<u32>(row, 0, REGION_LENGTH);
  }
}

function free_row(worker: usize): usize {
  for (let i: u32 = 0; i < <u32>RECORD_LIMIT; i++) {
    const row = worker + WORKER_REGIONS + (TAG_RECORD + i) * REGION_SIZE;
    if (!load<u32>(row, REGION_BASE)) return row;
  }
  return 0;
}
