/**
 * Sums: of bytes (RFC 1071), in the fields of headers (RFC 1624), and the sum that a card took over all of an skb, which
 * helpers keep right. A sum is 32 bits in memory order, end-around; it is 0 only where all that went in was 0.
 */
import { PACKET_SUM, PACKET_SUM_LEVEL, PACKET_SUM_STATE, SUM_COMPLETE, SUM_NONE, SUM_UNNECESSARY, WORKER_PACKET } from '../src/layout';
import { EACCES, EFAULT, EINVAL, ENOTSUPP } from './errno';
import { packet_data, packet_holds } from './packet';

const FIELD_SIZE: u64 = 0xf;
const PSEUDO_HEADER: u64 = 0x10;
const MARK_MANGLED_0: u64 = 0x20;
const MARK_ENFORCE: u64 = 0x40;
const IPV6: u64 = 0x80;
/** skb->csum_level has two bits. */
const LEVEL_LIMIT: u32 = 3;

/** The sum of `length` bytes and of `seed`; bytes that are missing in the last word count as zero. */
export function sum_partial(address: usize, length: u32, seed: u32): u32 {
  let sum: u64 = seed;
  let at = address;
  const end = address + length;
  while (at + 16 <= end) {
    sum += <u64>load<u32>(at) + <u64>load<u32>(at, 4) + <u64>load<u32>(at, 8) + <u64>load<u32>(at, 12);
    at += 16;
  }
  while (at + 4 <= end) {
    sum += load<u32>(at);
    at += 4;
  }
  let shift: u64 = 0;
  while (at < end) {
    sum += (<u64>load<u8>(at)) << shift;
    shift += 8;
    at++;
  }
  return <u32>within32(within32(sum));
}

/** Two sums together. */
export function sum_add(one: u32, other: u32): u32 {
  const sum = one + other;
  return sum + <u32>(sum < other);
}

/** What is left of a sum without another. */
export function sum_subtract(sum: u32, part: u32): u32 {
  return sum_add(sum, ~part);
}

/** A sum as it counts from an odd offset on. */
function sum_at(sum: u32, offset: u32): u32 {
  return offset & 1 ? rotr<u32>(sum, 8) : sum;
}

/** A sum in 16 bits. */
export function sum_fold(sum: u32): u32 {
  const folded = (sum & 0xffff) + (sum >> 16);
  return (folded & 0xffff) + (folded >> 16);
}

function within32(sum: u64): u64 {
  return (sum & 0xffffffff) + (sum >> 32);
}

/** Bytes at `offset` of an skb are about to go: takes them out of the card's sum, where there is one. */
export function sum_pull(worker: usize, address: usize, length: u32, offset: u32): void {
  const packet = worker + WORKER_PACKET;
  if (load<u32>(packet, PACKET_SUM_STATE) != SUM_COMPLETE) return;
  const gone = sum_at(sum_partial(address, length, 0), offset);
  store<u32>(packet, sum_subtract(load<u32>(packet, PACKET_SUM), gone), PACKET_SUM);
}

/** Bytes at `offset` of an skb have come: puts them into the card's sum, where there is one. */
export function sum_push(worker: usize, address: usize, length: u32, offset: u32): void {
  const packet = worker + WORKER_PACKET;
  if (load<u32>(packet, PACKET_SUM_STATE) != SUM_COMPLETE) return;
  const come = sum_at(sum_partial(address, length, 0), offset);
  store<u32>(packet, sum_add(load<u32>(packet, PACKET_SUM), come), PACKET_SUM);
}

/** Forgets that sums were found right. */
export function sum_forget_right(worker: usize): void {
  const packet = worker + WORKER_PACKET;
  if (load<u32>(packet, PACKET_SUM_STATE) != SUM_UNNECESSARY) return;
  store<u32>(packet, SUM_NONE, PACKET_SUM_STATE);
  store<u32>(packet, 0, PACKET_SUM_LEVEL);
}

/** bpf_csum_diff. Nothing is read where a size is 0. */
export function csum_diff(from: usize, fromSize: u64, to: usize, toSize: u64, seed: u64): i64 {
  const removed = <u32>fromSize;
  const added = <u32>toSize;
  let sum = <u32>seed;
  if (removed && added) sum = sum_subtract(sum_partial(to, added, sum), sum_partial(from, removed, 0));
  else if (added) sum = sum_partial(to, added, sum);
  else if (removed) sum = ~sum_partial(from, removed, ~sum);
  return <i64>sum_fold(sum);
}

/** bpf_csum_update. */
export function csum_update(worker: usize, difference: u64): i64 {
  const packet = worker + WORKER_PACKET;
  if (load<u32>(packet, PACKET_SUM_STATE) != SUM_COMPLETE) return ENOTSUPP;
  const sum = sum_add(load<u32>(packet, PACKET_SUM), <u32>difference);
  store<u32>(packet, sum, PACKET_SUM);
  return <i64>sum;
}

/** bpf_csum_level: 0 asks, 1 puts one more on, 2 takes one off, 3 forgets. */
export function csum_level(worker: usize, what: u64): i64 {
  const packet = worker + WORKER_PACKET;
  const state = load<u32>(packet, PACKET_SUM_STATE);
  const level = load<u32>(packet, PACKET_SUM_LEVEL);
  if (what == 0) return state == SUM_UNNECESSARY ? <i64>level : EACCES;
  if (what == 1) {
    if (state == SUM_UNNECESSARY && level < LEVEL_LIMIT) store<u32>(packet, level + 1, PACKET_SUM_LEVEL);
    if (state != SUM_NONE) return 0;
    store<u32>(packet, SUM_UNNECESSARY, PACKET_SUM_STATE);
    store<u32>(packet, 0, PACKET_SUM_LEVEL);
  } else if (what == 2) {
    if (state != SUM_UNNECESSARY) return 0;
    if (level) store<u32>(packet, level - 1, PACKET_SUM_LEVEL);
    else store<u32>(packet, SUM_NONE, PACKET_SUM_STATE);
  } else if (what == 3) sum_forget_right(worker);
  else return EINVAL;
  return 0;
}

/** bpf_l3_csum_replace. */
export function l3_csum_replace(worker: usize, offset: u64, from: u64, to: u64, flags: u64): i64 {
  if (flags & ~FIELD_SIZE) return EINVAL;
  const error = misplaced(worker, <u32>offset);
  if (error) return error;
  const size = flags & FIELD_SIZE;
  if ((size == 0 && from) || (size != 0 && size != 2 && size != 4)) return EINVAL;
  const field = packet_data(worker) + <u32>offset;
  store<u16>(field, <u16>replaced(load<u16>(field), <u32>size, from, to));
  return 0;
}

/** bpf_l4_csum_replace. An skb of the engine holds whole sums, never a part that a card is to finish. */
export function l4_csum_replace(worker: usize, offset: u64, from: u64, to: u64, flags: u64): i64 {
  if (flags & ~(FIELD_SIZE | PSEUDO_HEADER | MARK_MANGLED_0 | MARK_ENFORCE | IPV6)) return EINVAL;
  const error = misplaced(worker, <u32>offset);
  if (error) return error;
  const field = packet_data(worker) + <u32>offset;
  const check = load<u16>(field);
  // a sum of 0 means that there is none
  if (flags & MARK_MANGLED_0 && !(flags & MARK_ENFORCE) && check == 0) return 0;
  const size = <u32>(flags & FIELD_SIZE);
  if ((size == 0 && from) || (size != 0 && size != 2 && size != 4)) return EINVAL;
  let after = replaced(check, size, from, to);
  if (flags & PSEUDO_HEADER) pseudo_header_changed(worker, size, from, to, (flags & IPV6) != 0);
  if (flags & MARK_MANGLED_0 && after == 0) after = 0xffff;
  store<u16>(field, <u16>after);
  return 0;
}

function misplaced(worker: usize, offset: u32): i64 {
  return offset > 0xffff || offset & 1 || !packet_holds(worker, offset, 2) ? EFAULT : 0;
}

/** A header's checksum after a word of 2 or 4 bytes under it changed, or (size 0) after a difference in `to`. */
function replaced(check: u32, size: u32, from: u64, to: u64): u32 {
  const before: u32 = ~check & (size == 2 ? 0xffff : 0xffffffff);
  if (size == 0) return ~sum_fold(sum_add(<u32>to, ~check)) & 0xffff;
  if (size == 4) return ~sum_fold(sum_add(sum_subtract(before, <u32>from), <u32>to)) & 0xffff;
  return ~add16(add16(before, ~(<u32>from) & 0xffff), <u32>to & 0xffff) & 0xffff;
}

function add16(one: u32, other: u32): u32 {
  const sum = one + other;
  return (sum & 0xffff) + (sum >> 16);
}

/** The pseudo header is not part of the packet: what changed there went into the field, so the card's sum goes the other way. */
function pseudo_header_changed(worker: usize, size: u32, from: u64, to: u64, isIpv6: bool): void {
  const packet = worker + WORKER_PACKET;
  if (load<u32>(packet, PACKET_SUM_STATE) != SUM_COMPLETE) return;
  const sum = load<u32>(packet, PACKET_SUM);
  if (size == 0) {
    if (!isIpv6) store<u32>(packet, ~sum_subtract(<u32>to, sum), PACKET_SUM);
    return;
  }
  const mask: u32 = size == 2 ? 0xffff : 0xffffffff;
  store<u32>(packet, ~sum_add(sum_subtract(~sum, <u32>from & mask), <u32>to & mask), PACKET_SUM);
}
