/**
 * Helpers that move the ends of an skb and what lies between them: room for headers, other families, VLAN tags. The packet
 * starts at its link header; a tag may lie beside it (as cards take it out), and then a second one goes into the frame.
 */
import {
  PACKET_DATA,
  PACKET_ENCAPSULATED,
  PACKET_END,
  PACKET_META,
  PACKET_NETWORK,
  PACKET_OF_SOCKET,
  PACKET_SUM_STATE,
  SKB_GSO_SEGMENTS,
  SKB_GSO_SIZE,
  SKB_PROTOCOL,
  SKB_VLAN_PRESENT,
  SKB_VLAN_PROTOCOL,
  SKB_VLAN_TCI,
  SUM_COMPLETE,
  SUM_NONE,
  WORKER_CONTEXT,
  WORKER_PACKET,
} from '../src/layout';
import { sum_forget_right, sum_pull, sum_push } from './checksum';
import { EALREADY, EFAULT, EINVAL, ENOMEM, ENOTSUPP } from './errno';
import { IEEE_802_2, IEEE_802_3, IPV4, IPV6, PROVIDER_VLAN, VLAN } from './ethertype';
import { packet_data, packet_length, packet_make_room, packet_moved, packet_start_at } from './packet';
import { set_hash_invalid, skb_network, skb_protocol } from './skb';

/** SKB_MAX_ALLOC: four pages less struct skb_shared_info. */
const LENGTH_LIMIT: u32 = 4 * 4096 - 320;
const ROOM_LIMIT: u32 = 0xfff;
const ETHERNET_BYTES: u32 = 14;
const ADDRESS_BYTES: u32 = 12;
const TAG_BYTES: u32 = 4;
const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;

const FIXED_GSO: u64 = 1 << 0;
const ENCAP_IPV4: u64 = 1 << 1;
const ENCAP_IPV6: u64 = 1 << 2;
const ENCAP_GRE: u64 = 1 << 3;
const ENCAP_UDP: u64 = 1 << 4;
const NO_CSUM_RESET: u64 = 1 << 5;
const ENCAP_ETHERNET: u64 = 1 << 6;
const DECAP_IPV4: u64 = 1 << 7;
const DECAP_IPV6: u64 = 1 << 8;
const INNER_LINK_SHIFT: u64 = 56;
const ROOM_FLAGS: u64 = 0x1ff | ((<u64>0xff) << INNER_LINK_SHIFT);

function set_protocol(worker: usize, protocol: u32): void {
  store<u32>(worker + WORKER_CONTEXT, protocol, SKB_PROTOCOL);
}

function set_network(worker: usize, offset: u32): void {
  store<u32>(worker + WORKER_PACKET, offset, PACKET_NETWORK);
}

function is_gso(worker: usize): bool {
  return load<u32>(worker + WORKER_CONTEXT, SKB_GSO_SIZE) != 0;
}

/** Puts zeros into the packet behind its first `offset` bytes, or behind all where there are not so many. */
function insert(worker: usize, offset: u32, bytes: u32): bool {
  if (!packet_make_room(worker, bytes, 0)) return false;
  const before = packet_data(worker);
  const kept = min<u32>(offset, packet_length(worker));
  packet_start_at(worker, before - bytes);
  memory.copy(before - bytes, before, kept);
  memory.fill(before - bytes + kept, 0, bytes);
  return true;
}

/** Takes bytes out of the packet behind its first `offset`, and out of the card's sum. */
function remove(worker: usize, offset: u32, bytes: u32): bool {
  if (<u64>offset + bytes > <u64>packet_length(worker)) return false;
  const before = packet_data(worker);
  sum_pull(worker, before + offset, bytes, 0);
  memory.copy(before + bytes, before, offset);
  packet_start_at(worker, before + bytes);
  return true;
}

/** bpf_skb_change_head: zeros in front; what was the link header belongs to it still. */
export function skb_change_head(worker: usize, room: u64, flags: u64): i64 {
  const bytes = <u32>room;
  const length = packet_length(worker) + bytes;
  if (flags || <i32>bytes < 0 || (!is_gso(worker) && length > LENGTH_LIMIT)) return EINVAL;
  if (!insert(worker, 0, bytes)) return ENOMEM;
  set_network(worker, skb_network(worker) + bytes);
  return 0;
}

/** bpf_skb_change_tail: bytes that come are zero. */
export function skb_change_tail(worker: usize, to: u64, flags: u64): i64 {
  const packet = worker + WORKER_PACKET;
  const length = <u32>to;
  const before = packet_length(worker);
  if (flags || length > LENGTH_LIMIT || length < skb_network(worker)) return EINVAL;
  if (load<u32>(packet, PACKET_ENCAPSULATED)) return ENOTSUPP;
  if (length > before) {
    if (!packet_make_room(worker, 0, length - before)) return ENOMEM;
    memory.fill(packet_data(worker) + before, 0, length - before);
  }
  // the card's sum is given up, not kept right
  if (length != before && load<u32>(packet, PACKET_SUM_STATE) == SUM_COMPLETE) store<u32>(packet, SUM_NONE, PACKET_SUM_STATE);
  store<u32>(packet, <u32>packet_data(worker) + length, PACKET_END);
  if (is_gso(worker)) {
    store<u32>(worker + WORKER_CONTEXT, 0, SKB_GSO_SIZE);
    store<u32>(worker + WORKER_CONTEXT, 0, SKB_GSO_SEGMENTS);
  }
  packet_moved(worker);
  return 0;
}

/** bpf_skb_change_proto: makes room for the other family's header, or takes what it does not need. */
export function skb_change_proto(worker: usize, to: u64, flags: u64): i64 {
  if (flags) return EINVAL;
  const before = skb_protocol(worker);
  const after = <u32>(<u16>to);
  const network = skb_network(worker);
  if (before == IPV4 && after == IPV6) {
    if (!insert(worker, network, IPV6_BYTES - IPV4_BYTES)) return ENOMEM;
  } else if (before == IPV6 && after == IPV4) {
    if (!remove(worker, network, IPV6_BYTES - IPV4_BYTES)) return ENOMEM;
  } else return ENOTSUPP;
  set_protocol(worker, after);
  set_hash_invalid(worker);
  return 0;
}

/** bpf_skb_adjust_room of a socket's data: at their front, in this room only shorter. */
function data_adjust_room(worker: usize, by: u64, mode: u64, flags: u64): i64 {
  const delta = <i32>by;
  const bytes: u32 = delta < 0 ? -delta : delta;
  if (flags || <u32>mode) return EINVAL;
  if (bytes > ROOM_LIMIT) return EFAULT;
  if (delta > 0 || bytes > packet_length(worker)) return ENOMEM;
  const packet = worker + WORKER_PACKET;
  const data = <u32>packet_data(worker) + bytes;
  store<u32>(packet, data, PACKET_META);
  store<u32>(packet, data, PACKET_DATA);
  packet_moved(worker);
  return 0;
}

/** bpf_skb_adjust_room: mode 0 behind the network header, 1 behind the link header. */
export function skb_adjust_room(worker: usize, by: u64, mode: u64, flags: u64): i64 {
  if (load<u32>(worker + WORKER_PACKET, PACKET_OF_SOCKET)) return data_adjust_room(worker, by, mode, flags);
  const delta = <i32>by;
  const bytes: u32 = delta < 0 ? -delta : delta;
  const protocol = skb_protocol(worker);
  if (flags & ~ROOM_FLAGS) return EINVAL;
  if (bytes > ROOM_LIMIT) return EFAULT;
  if (protocol != IPV4 && protocol != IPV6) return ENOTSUPP;
  const base = protocol == IPV4 ? IPV4_BYTES : IPV6_BYTES;
  const network = skb_network(worker);
  let offset = network;
  if (<u32>mode == 0) offset += base;
  else if (<u32>mode != 1) return ENOTSUPP;
  let least = base;
  const decap = flags & (DECAP_IPV4 | DECAP_IPV6);
  if (decap) {
    if (delta >= 0 || decap == (DECAP_IPV4 | DECAP_IPV6)) return EINVAL;
    least = decap == DECAP_IPV4 ? IPV4_BYTES : IPV6_BYTES;
  }
  const length = packet_length(worker);
  const behind = length - network;
  if (delta < 0 && (bytes >= behind || behind - bytes < least)) return ENOTSUPP;
  if (delta >= 0 && length + bytes > LENGTH_LIMIT && !is_gso(worker)) return ENOTSUPP;
  const error = delta < 0 ? shrink(worker, offset, bytes, flags) : grow(worker, offset, bytes, flags);
  if (!error && !(flags & NO_CSUM_RESET)) sum_forget_right(worker);
  return error;
}

function grow(worker: usize, offset: u32, bytes: u32, flags: u64): i64 {
  const packet = worker + WORKER_PACKET;
  const outer = flags & (ENCAP_IPV4 | ENCAP_IPV6);
  // rows of segments are never known to be TCP's here
  if (is_gso(worker)) return ENOTSUPP;
  if (outer) {
    const innerLink = <u32>(flags >> INNER_LINK_SHIFT);
    if (outer == (ENCAP_IPV4 | ENCAP_IPV6)) return EINVAL;
    if (flags & ENCAP_GRE && flags & ENCAP_UDP) return EINVAL;
    if (flags & ENCAP_ETHERNET && innerLink < ETHERNET_BYTES) return EINVAL;
    if (load<u32>(packet, PACKET_ENCAPSULATED)) return EALREADY;
    if (innerLink > bytes) return EINVAL;
  }
  if (!insert(worker, offset, bytes)) return ENOMEM;
  if (outer) {
    store<u32>(packet, 1, PACKET_ENCAPSULATED);
    set_protocol(worker, outer == ENCAP_IPV4 ? IPV4 : IPV6);
  }
  return 0;
}

function shrink(worker: usize, offset: u32, bytes: u32, flags: u64): i64 {
  if (flags & ~(FIXED_GSO | DECAP_IPV4 | DECAP_IPV6 | NO_CSUM_RESET)) return EINVAL;
  if (is_gso(worker)) return ENOTSUPP;
  if (!remove(worker, offset, bytes)) return ENOMEM;
  if (flags & DECAP_IPV4) set_protocol(worker, IPV4);
  if (flags & DECAP_IPV6) set_protocol(worker, IPV6);
  return 0;
}

/** bpf_skb_vlan_push: the tag goes beside the frame; one that was there goes into it. */
export function skb_vlan_push(worker: usize, protocol: u64, tci: u64): i64 {
  const context = worker + WORKER_CONTEXT;
  const type = <u32>(<u16>protocol) == PROVIDER_VLAN ? PROVIDER_VLAN : VLAN;
  const error = skb_vlan_settle(worker);
  if (error) return error;
  store<u32>(context, 1, SKB_VLAN_PRESENT);
  store<u32>(context, <u32>(<u16>tci), SKB_VLAN_TCI);
  store<u32>(context, type, SKB_VLAN_PROTOCOL);
  return 0;
}

/** Puts the tag that lies beside the frame, where there is one, into it: as a card does on sending. */
export function skb_vlan_settle(worker: usize): i64 {
  const context = worker + WORKER_CONTEXT;
  if (!load<u32>(context, SKB_VLAN_PRESENT)) return 0;
  if (!insert(worker, ADDRESS_BYTES, TAG_BYTES)) return ENOMEM;
  const tag = packet_data(worker) + ADDRESS_BYTES;
  const protocol = load<u32>(context, SKB_VLAN_PROTOCOL);
  store<u16>(tag, <u16>protocol);
  store<u16>(tag, bswap<u16>(<u16>load<u32>(context, SKB_VLAN_TCI)), 2);
  sum_push(worker, tag, TAG_BYTES, 0);
  set_protocol(worker, protocol);
  forget_tag(context);
  return 0;
}

/** bpf_skb_vlan_pop: takes the outer tag off; one behind it comes out of the frame and lies beside it. */
export function skb_vlan_pop(worker: usize): i64 {
  const context = worker + WORKER_CONTEXT;
  if (load<u32>(context, SKB_VLAN_PRESENT)) forget_tag(context);
  else {
    if (!is_tag(skb_protocol(worker)) || packet_length(worker) < ETHERNET_BYTES + TAG_BYTES) return 0;
    take_tag(worker);
  }
  const protocol = skb_protocol(worker);
  if (!is_tag(protocol)) return 0;
  if (packet_length(worker) < ETHERNET_BYTES + TAG_BYTES) return ENOMEM;
  const tci = take_tag(worker);
  store<u32>(context, 1, SKB_VLAN_PRESENT);
  store<u32>(context, tci, SKB_VLAN_TCI);
  store<u32>(context, protocol, SKB_VLAN_PROTOCOL);
  return 0;
}

function forget_tag(context: usize): void {
  store<u32>(context, 0, SKB_VLAN_PRESENT);
  store<u32>(context, 0, SKB_VLAN_TCI);
  store<u32>(context, 0, SKB_VLAN_PROTOCOL);
}

function is_tag(protocol: u32): bool {
  return protocol == VLAN || protocol == PROVIDER_VLAN;
}

/** Takes the tag out of the frame's link header; returns what it says. */
function take_tag(worker: usize): u32 {
  const tag = packet_data(worker) + ETHERNET_BYTES;
  const tci = <u32>bswap<u16>(load<u16>(tag));
  const type = <u32>load<u16>(tag, 2);
  const network = skb_network(worker);
  // behind a length there is LLC, or Novell's 0xffff
  const isNovell = packet_length(worker) >= ETHERNET_BYTES + TAG_BYTES + 2 && load<u16>(tag, 4) == 0xffff;
  remove(worker, ADDRESS_BYTES, TAG_BYTES);
  set_network(worker, network < ETHERNET_BYTES + TAG_BYTES ? ETHERNET_BYTES : network - TAG_BYTES);
  set_protocol(worker, bswap<u16>(<u16>type) >= 0x600 ? type : isNovell ? IEEE_802_3 : IEEE_802_2);
  return tci;
}
