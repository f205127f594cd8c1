import { MAP_KIND } from '../src/layout';

/** Kinds of maps, as a descriptor names them (enum bpf_map_type). */
export const KIND_HASH = 1;
export const KIND_ARRAY = 2;
export const KIND_PROGRAM_ARRAY = 3;
export const KIND_PERF_EVENT_ARRAY = 4;
export const KIND_PER_CPU_HASH = 5;
export const KIND_PER_CPU_ARRAY = 6;
export const KIND_LRU_HASH = 9;
export const KIND_LRU_PER_CPU_HASH = 10;
export const KIND_LPM_TRIE = 11;
export const KIND_ARRAY_OF_MAPS = 12;
export const KIND_HASH_OF_MAPS = 13;
export const KIND_DEVMAP = 14;
export const KIND_SOCKMAP = 15;
export const KIND_CPUMAP = 16;
export const KIND_XSKMAP = 17;
export const KIND_SOCKHASH = 18;
export const KIND_QUEUE = 22;
export const KIND_STACK = 23;
export const KIND_DEVMAP_HASH = 25;
export const KIND_RING_BUFFER = 27;
export const KIND_BLOOM_FILTER = 30;

/** Whether a full map of its kind makes room by itself. */
export function is_lru(map: usize): bool {
  const kind = load<u32>(map, MAP_KIND);
  return kind === KIND_LRU_HASH || kind === KIND_LRU_PER_CPU_HASH;
}

/** Whether an entry has a value for each CPU. */
export function is_per_cpu(map: usize): bool {
  const kind = load<u32>(map, MAP_KIND);
  return kind === KIND_PER_CPU_HASH || kind === KIND_PER_CPU_ARRAY || kind === KIND_LRU_PER_CPU_HASH;
}
