/** Helpers that move the ends of an XDP packet, and copy out of it and into it (net/core/filter.c at Linux 6.18 says how). */
import { PACKET_CEILING, PACKET_DATA, PACKET_END, PACKET_FLOOR, PACKET_META, WORKER_PACKET } from '../src/layout';
import { EACCES, EFAULT, EINVAL } from './errno';
import { packet_data, packet_holds, packet_length, packet_moved, packet_start_at } from './packet';

const ETHERNET_BYTES = 14;
/** sizeof(struct xdp_frame): the kernel keeps it in front of everything. */
const FRAME_BYTES = 40;
/** What fits skb_shared_info.meta_len. */
const METADATA_LIMIT = 255;

/** bpf_xdp_adjust_head. */
export function xdp_adjust_head(worker: usize, delta: u64): i64 {
  const packet = worker + WORKER_PACKET;
  const before = load<u32>(packet, PACKET_DATA);
  const metadata = before - load<u32>(packet, PACKET_META);
  const data = <i64>before + <i64>(<i32>delta);
  const least = <i64>load<u32>(packet, PACKET_FLOOR) + FRAME_BYTES + metadata;
  if (data < least || data > <i64>load<u32>(packet, PACKET_END) - ETHERNET_BYTES) return EINVAL;
  packet_start_at(worker, <usize>data);
  return 0;
}

/** bpf_xdp_adjust_tail: bytes that come are zero. */
export function xdp_adjust_tail(worker: usize, delta: u64): i64 {
  const packet = worker + WORKER_PACKET;
  const by = <i32>delta;
  const before = load<u32>(packet, PACKET_END);
  const end = <i64>before + <i64>by;
  if (end > <i64>load<u32>(packet, PACKET_CEILING)) return EINVAL;
  if (end < <i64>load<u32>(packet, PACKET_DATA) + ETHERNET_BYTES) return EINVAL;
  if (by > 0) memory.fill(before, 0, by);
  store<u32>(packet, <u32>end, PACKET_END);
  packet_moved(worker);
  return 0;
}

/** bpf_xdp_adjust_meta. */
export function xdp_adjust_meta(worker: usize, delta: u64): i64 {
  const packet = worker + WORKER_PACKET;
  const data = <i64>load<u32>(packet, PACKET_DATA);
  const meta = <i64>load<u32>(packet, PACKET_META) + <i64>(<i32>delta);
  if (meta < <i64>load<u32>(packet, PACKET_FLOOR) + FRAME_BYTES || meta > data) return EINVAL;
  const bytes = data - meta;
  if (bytes & 3 || bytes > METADATA_LIMIT) return EACCES;
  store<u32>(packet, <u32>meta, PACKET_META);
  packet_moved(worker);
  return 0;
}

/** bpf_xdp_get_buff_len. */
export function xdp_get_buff_len(worker: usize): u64 {
  return packet_length(worker);
}

/** bpf_xdp_load_bytes. */
export function xdp_load_bytes(worker: usize, offset: u64, to: usize, length: u64): i64 {
  const error = outside(worker, <u32>offset, <u32>length);
  if (error) return error;
  memory.copy(to, packet_data(worker) + <u32>offset, <u32>length);
  return 0;
}

/** bpf_xdp_store_bytes. */
export function xdp_store_bytes(worker: usize, offset: u64, from: usize, length: u64): i64 {
  const error = outside(worker, <u32>offset, <u32>length);
  if (error) return error;
  memory.copy(packet_data(worker) + <u32>offset, from, <u32>length);
  return 0;
}

function outside(worker: usize, offset: u32, length: u32): i64 {
  if (offset > 0xffff || length > 0xffff) return EFAULT;
  return packet_holds(worker, offset, length) ? 0 : EINVAL;
}
