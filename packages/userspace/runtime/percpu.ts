/** One CPU's value of a per-CPU map. */
import { MAP_CPUS } from '../src/layout';
import { map_lookup } from './map';

/** bpf_map_lookup_percpu_elem: 0 for a CPU that there is not, too. */
export function map_lookup_percpu_elem(map: usize, key: usize, cpu: u64): usize {
  return <u32>cpu < load<u32>(map, MAP_CPUS) ? map_lookup(map, key, <u32>cpu) : 0;
}
