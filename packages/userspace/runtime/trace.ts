/** What programs print: the last lines stay with their worker, in a ring that the engine reads (TRACE_*). */
import { TRACE_LINES, TRACE_SLOT_SIZE, TRACE_SLOTS, WORKER_SCRATCH, WORKER_TRACE } from '../src/layout';
import { EINVAL } from './errno';
import { formatted, text_length } from './format';

/** MAX_BPRINTF_VARARGS. */
const ARGUMENT_LIMIT: u32 = 12;

/** bpf_trace_printk: a line with up to three numbers. Returns its length. */
export function trace_printk(worker: usize, format: usize, size: u64, one: u64, two: u64, three: u64): i64 {
  const args = worker + WORKER_SCRATCH;
  store<u64>(args, one);
  store<u64>(args, two, 8);
  store<u64>(args, three, 16);
  return printed(worker, format, <u32>size, args, 3);
}

/** bpf_trace_vprintk: a line with up to twelve numbers of 8 bytes. */
export function trace_vprintk(worker: usize, format: usize, size: u64, args: usize, bytes: u64): i64 {
  if (!is_count(<u32>bytes)) return EINVAL;
  return printed(worker, format, <u32>size, args, <u32>bytes >> 3);
}

/** bpf_snprintf: the bytes that the whole text takes, its zero byte counted. */
export function snprintf(worker: usize, to: usize, size: u64, format: u64, args: usize, bytes: u64): i64 {
  if (!is_count(<u32>bytes)) return EINVAL;
  const total = formatted(worker, to, <u32>size, <usize>format, text_length(worker, format), args, <u32>bytes >> 3);
  return total < 0 ? total : total + 1;
}

function is_count(bytes: u32): bool {
  return (bytes & 7) == 0 && bytes <= ARGUMENT_LIMIT * 8;
}

function printed(worker: usize, format: usize, size: u32, args: usize, count: u32): i64 {
  let length: u32 = 0;
  while (length < size && load<u8>(format + length)) length++;
  if (length == size) return EINVAL;
  const ring = worker + WORKER_TRACE;
  const lines = load<u32>(ring);
  const slot = ring + TRACE_SLOTS + (lines % TRACE_LINES) * TRACE_SLOT_SIZE;
  const total = formatted(worker, slot + 4, TRACE_SLOT_SIZE - 4, format, length, args, count);
  if (total < 0) return total;
  store<u32>(slot, min<u32>(<u32>total, TRACE_SLOT_SIZE - 5));
  store<u32>(ring, lines + 1);
  return total;
}
