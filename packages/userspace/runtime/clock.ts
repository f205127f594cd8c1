/** Time, as the engine set it: one clock, so that a run can be repeated. */
import { CLOCK_NOW, CLOCK_TAI_OFFSET, SHARED } from '../src/layout';

/** ns of a tick of jiffies64, with the kernel's usual HZ of 250. */
const TICK: u64 = 4000000;

/** bpf_ktime_get_ns, _boot_ns and _coarse_ns: nothing sleeps here. */
export function ktime_get_ns(): u64 {
  return load<u64>(SHARED + CLOCK_NOW);
}

/** bpf_ktime_get_tai_ns. */
export function ktime_get_tai_ns(): u64 {
  return load<u64>(SHARED + CLOCK_NOW) + load<u64>(SHARED + CLOCK_TAI_OFFSET);
}

/** bpf_jiffies64. */
export function jiffies64(): u64 {
  return load<u64>(SHARED + CLOCK_NOW) / TICK;
}
