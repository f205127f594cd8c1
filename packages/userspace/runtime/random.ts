/** Random numbers, one row of them for each worker, and where a worker runs. */
import { WORKER_CPU, WORKER_RANDOM } from '../src/layout';

/** bpf_get_prandom_u32: xorshift64* (Vigna, 2016); the upper half of each number is the better one. */
export function get_prandom_u32(worker: usize): u64 {
  let state = load<u64>(worker + WORKER_RANDOM);
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  store<u64>(worker + WORKER_RANDOM, state);
  // biome-ignore lint/correctness/noPrecisionLoss: an integer of 64 bits here
  return (state * 0x2545f4914f6cdd1d) >> 32;
}

/** bpf_get_smp_processor_id. */
export function get_smp_processor_id(worker: usize): u64 {
  return load<u32>(worker + WORKER_CPU);
}

/** bpf_get_numa_node_id: all memory is one node's. */
export function get_numa_node_id(): u64 {
  return 0;
}
