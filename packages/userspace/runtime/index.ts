export { array_lookup, array_update } from './array';
export { bloom_peek, bloom_push } from './bloom';
export { csum_diff, csum_level, csum_update, l3_csum_replace, l4_csum_replace } from './checksum';
export { jiffies64, ktime_get_ns, ktime_get_tai_ns } from './clock';
export { each_begin, each_end, each_next, each_value } from './each';
export { skb_enter } from './enter';
export {
  hash_delete,
  hash_lookup,
  hash_lookup as lru_lookup,
  hash_lookup_any,
  hash_lookup_any as lru_lookup_any,
  hash_lookup4,
  hash_lookup4 as lru_lookup4,
  hash_lookup8,
  hash_lookup8 as lru_lookup8,
  hash_lookup16,
  hash_lookup16 as lru_lookup16,
  hash_update,
} from './hash';
export { spin_lock, spin_release, spin_unlock } from './lock';
export { lpm_delete, lpm_lookup, lpm_update } from './lpm';
export {
  inner_lookup,
  map_bytes,
  map_copy,
  map_delete,
  map_entry,
  map_init,
  map_lookup,
  map_next_key,
  map_peek,
  map_pop,
  map_push,
  map_read,
  map_update,
  map_update_entry,
} from './map';
export { check_mtu, fib_lookup } from './network';
export { packet_moved } from './packet';
export { map_lookup_percpu_elem } from './percpu';
export { perf_event_output } from './perf';
export { queue_peek, queue_pop, queue_push } from './queue';
export { get_numa_node_id, get_prandom_u32, get_smp_processor_id } from './random';
export { record_close, record_close_all, record_reserve } from './record';
export { clone_redirect, redirect, redirect_map, redirect_neigh, redirect_peer } from './redirect';
export { context_pointer, map_address, region_address, result_tag } from './region';
export {
  ring_armed,
  ring_commit,
  ring_consumer,
  ring_data,
  ring_output,
  ring_producer,
  ring_query,
  ring_reserve,
  ring_wake,
} from './ring';
export {
  get_hash_recalc,
  set_hash,
  set_hash_invalid,
  skb_change_type,
  skb_ecn_set_ce,
  skb_load_bytes,
  skb_load_bytes_relative,
  skb_pull_data,
  skb_set_tstamp,
  skb_store_bytes,
} from './skb';
export {
  skb_adjust_room,
  skb_change_head,
  skb_change_proto,
  skb_change_tail,
  skb_vlan_pop,
  skb_vlan_push,
  skb_vlan_settle,
} from './skb-move';
export { slot_lookup } from './slot';
export {
  get_netns_cookie,
  msg_apply_bytes,
  msg_cork_bytes,
  msg_pull_data,
  sk_redirect_hash,
  sk_redirect_map,
  sock_map_update,
} from './socket';
export { strncmp, strtol, strtoul } from './text';
export { snprintf, trace_printk, trace_vprintk } from './trace';
export { skb_get_tunnel_key, skb_set_tunnel_key } from './tunnel';
export { xdp_adjust_head, xdp_adjust_meta, xdp_adjust_tail, xdp_get_buff_len, xdp_load_bytes, xdp_store_bytes } from './xdp';
