/** Helpers that read and write the bytes of an skb, and those for its fields beside the bytes. Frames are always in one piece. */
import {
  PACKET_HASHED,
  PACKET_NETWORK,
  PACKET_SUM,
  PACKET_SUM_STATE,
  SKB_HASH,
  SKB_PACKET_TYPE,
  SKB_PROTOCOL,
  SKB_TIMESTAMP,
  SKB_TIMESTAMP_TYPE,
  SUM_COMPLETE,
  WORKER_CONTEXT,
  WORKER_PACKET,
} from '../src/layout';
import { sum_add, sum_pull, sum_push, sum_subtract } from './checksum';
import { EFAULT, EINVAL, ENOMEM, EOPNOTSUPP } from './errno';
import { IPV4, IPV6 } from './ethertype';
import { flow_hash } from './flow';
import { packet_data, packet_holds, packet_length } from './packet';

const RECOMPUTE_CSUM: u64 = 1;
const INVALIDATE_HASH: u64 = 2;
const INT_MAX: u32 = 0x7fffffff;
/** PACKET_OTHERHOST: the last type that programs may see or set. */
const OTHER_HOST: u32 = 3;

/** skb->protocol, in network order. */
export function skb_protocol(worker: usize): u32 {
  return load<u32>(worker + WORKER_CONTEXT, SKB_PROTOCOL);
}

/** Bytes from the packet's first to its network header. */
export function skb_network(worker: usize): u32 {
  return load<u32>(worker + WORKER_PACKET, PACKET_NETWORK);
}

/** bpf_skb_load_bytes: zeros where the packet has too few. */
export function skb_load_bytes(worker: usize, offset: u64, to: usize, length: u64): i64 {
  return copied(worker, <u32>offset, INT_MAX, to, <u32>length);
}

/** bpf_skb_load_bytes_relative: from the MAC header (0) or the network header (1) on. */
export function skb_load_bytes_relative(worker: usize, offset: u64, to: usize, length: u64, start: u64): i64 {
  const header = <u32>start;
  const at = <u32>offset;
  if (header > 1 || at > 0xffff) return copied(worker, 1, 0, to, <u32>length);
  return copied(worker, header == 1 ? at + skb_network(worker) : at, INT_MAX, to, <u32>length);
}

function copied(worker: usize, offset: u32, limit: u32, to: usize, length: u32): i64 {
  if (offset > limit || !packet_holds(worker, offset, length)) {
    memory.fill(to, 0, length);
    return EFAULT;
  }
  memory.copy(to, packet_data(worker) + offset, length);
  return 0;
}

/** bpf_skb_store_bytes. */
export function skb_store_bytes(worker: usize, offset: u64, from: usize, length: u64, flags: u64): i64 {
  if (flags & ~(RECOMPUTE_CSUM | INVALIDATE_HASH)) return EINVAL;
  const at = <u32>offset;
  const bytes = <u32>length;
  if (at > INT_MAX || !packet_holds(worker, at, bytes)) return EFAULT;
  const place = packet_data(worker) + at;
  if (flags & RECOMPUTE_CSUM) sum_pull(worker, place, bytes, at);
  memory.copy(place, from, bytes);
  if (flags & RECOMPUTE_CSUM) sum_push(worker, place, bytes, at);
  if (flags & INVALIDATE_HASH) set_hash_invalid(worker);
  return 0;
}

/** bpf_skb_pull_data: all of the packet is linear already. */
export function skb_pull_data(worker: usize, length: u64): i64 {
  return <u32>length <= packet_length(worker) ? 0 : ENOMEM;
}

/** bpf_skb_change_type. */
export function skb_change_type(worker: usize, type: u64): i64 {
  const context = worker + WORKER_CONTEXT;
  if (load<u32>(context, SKB_PACKET_TYPE) > OTHER_HOST || <u32>type > OTHER_HOST) return EINVAL;
  store<u32>(context, <u32>type, SKB_PACKET_TYPE);
  return 0;
}

/** bpf_get_hash_recalc: the same for both directions of a flow, and never 0. Other engines' hashes differ: theirs have secrets. */
export function get_hash_recalc(worker: usize): u64 {
  const packet = worker + WORKER_PACKET;
  const context = worker + WORKER_CONTEXT;
  if (!load<u32>(packet, PACKET_HASHED)) {
    store<u32>(context, flow_hash(packet_data(worker), packet_length(worker), skb_network(worker), skb_protocol(worker)), SKB_HASH);
    store<u32>(packet, 1, PACKET_HASHED);
  }
  return load<u32>(context, SKB_HASH);
}

/** bpf_set_hash_invalid. */
export function set_hash_invalid(worker: usize): i64 {
  store<u32>(worker + WORKER_CONTEXT, 0, SKB_HASH);
  store<u32>(worker + WORKER_PACKET, 0, PACKET_HASHED);
  return 0;
}

/** bpf_set_hash. */
export function set_hash(worker: usize, hash: u64): i64 {
  store<u32>(worker + WORKER_CONTEXT, <u32>hash, SKB_HASH);
  store<u32>(worker + WORKER_PACKET, 1, PACKET_HASHED);
  return 0;
}

/** bpf_skb_set_tstamp: type 0 is real time, 1 monotonic, 2 TAI. */
export function skb_set_tstamp(worker: usize, timestamp: u64, type: u64): i64 {
  const protocol = skb_protocol(worker);
  if (protocol != IPV4 && protocol != IPV6) return EOPNOTSUPP;
  const clock = <u32>type;
  if (clock > 2 || (clock != 0 && timestamp == 0)) return EINVAL;
  store<u64>(worker + WORKER_CONTEXT, timestamp, SKB_TIMESTAMP);
  store<u8>(worker + WORKER_CONTEXT, <u8>clock, SKB_TIMESTAMP_TYPE);
  return 0;
}

/** bpf_skb_ecn_set_ce: 1 where the packet says so now (RFC 3168), 0 where its sender does not know ECN. */
export function skb_ecn_set_ce(worker: usize): i64 {
  const protocol = skb_protocol(worker);
  const network = skb_network(worker);
  const header = packet_data(worker) + network;
  if (protocol == IPV4) {
    if (!packet_holds(worker, network, 20)) return 0;
    const ecn = load<u8>(header, 1) & 3;
    if (ecn == 0 || ecn == 3) return <i64>(ecn == 3);
    // the sum of the header goes down by what is added to its first word
    const check = <u32>bswap<u16>(load<u16>(header, 10)) + <u32>(0xffff - (3 - ecn));
    store<u16>(header, bswap<u16>(<u16>((check & 0xffff) + (check >> 16))), 10);
    store<u8>(header, load<u8>(header, 1) | 3, 1);
    return 1;
  }
  if (protocol != IPV6 || !packet_holds(worker, network, 40)) return 0;
  const ecn = (load<u8>(header, 1) >> 4) & 3;
  if (ecn == 0 || ecn == 3) return <i64>(ecn == 3);
  const before = load<u32>(header);
  store<u8>(header, load<u8>(header, 1) | 0x30, 1);
  const packet = worker + WORKER_PACKET;
  if (load<u32>(packet, PACKET_SUM_STATE) == SUM_COMPLETE)
    store<u32>(packet, sum_add(sum_subtract(load<u32>(packet, PACKET_SUM), before), load<u32>(header)), PACKET_SUM);
  return 1;
}
