import { describe, expect, it } from 'vitest';
import { Helper, helperName } from './helper.ts';

describe('Helper', () => {
  // From enum bpf_func_id in the BTF of a 6.18 kernel: both ends, and what stages use.
  it.each([
    ['map_lookup_elem', 1],
    ['map_update_elem', 2],
    ['map_delete_elem', 3],
    ['ktime_get_ns', 5],
    ['trace_printk', 6],
    ['get_prandom_u32', 7],
    ['get_smp_processor_id', 8],
    ['tail_call', 12],
    ['redirect', 23],
    ['csum_diff', 28],
    ['xdp_adjust_head', 44],
    ['redirect_map', 51],
    ['xdp_adjust_meta', 54],
    ['xdp_adjust_tail', 65],
    ['fib_lookup', 69],
    ['jiffies64', 118],
    ['csum_level', 135],
    ['ktime_get_coarse_ns', 160],
    ['xdp_get_buff_len', 188],
    ['xdp_load_bytes', 189],
    ['xdp_store_bytes', 190],
    ['cgrp_storage_delete', 211],
  ] as const)('bpf_%s is %i', (name, id) => {
    expect(Helper[name]).toBe(id);
    expect(helperName(id)).toBe(name);
  });

  it('lists every id once, without gaps', () => {
    expect(Object.values(Helper)).toEqual(Array.from({ length: 211 }, (_, index) => index + 1));
  });

  it.each([0, 212, -1])('has no name for %i', (id) => {
    expect(helperName(id)).toBeUndefined();
  });
});
