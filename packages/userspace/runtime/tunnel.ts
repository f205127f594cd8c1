/**
 * Metadata of tunnels (struct bpf_tunnel_key): what the tunnel that a packet came out of said, and what the one that it is
 * going into shall say. They are kept from the sender's side: `local` is where it comes from.
 */
import { TUNNEL_IPV4, TUNNEL_IPV6, TUNNEL_NONE, WORKER_TUNNEL_FLAGS, WORKER_TUNNEL_KEY, WORKER_TUNNEL_KEY_SET } from '../src/layout';
import { EINVAL, EPROTO } from './errno';

const IPV6: u64 = 1;
const ZERO_CSUM_TX: u64 = 2;
const DONT_FRAGMENT: u64 = 4;
const SEQ_NUMBER: u64 = 8;
const NO_TUNNEL_KEY: u64 = 16;
const GET_FLAGS: u64 = 16;

/** Where fields of struct bpf_tunnel_key are, and the sizes that it once had. */
const REMOTE: u32 = 4;
const TOS: u32 = 20;
const EXTRA: u32 = 22;
const LABEL: u32 = 24;
const LOCAL: u32 = 28;
const SIZE: u32 = 44;
const FLOW_LABEL: u32 = 0xfffff;

/** TUNNEL_* as the kernel shows them, before they are put in network order. */
const TUNNEL_CSUM = 0x01;
const TUNNEL_KEY = 0x04;
const TUNNEL_SEQ = 0x08;
const TUNNEL_DONT_FRAGMENT = 0x0100;
const TUNNEL_NOCACHE = 0x2000;

function is_size(size: u32): bool {
  return size == SIZE || size == LOCAL || size == LABEL || size == EXTRA || size == REMOTE + 4;
}

/** bpf_skb_get_tunnel_key: the receiver's side of it. Zeros where there is nothing to tell. */
export function skb_get_tunnel_key(worker: usize, to: usize, size: u64, flags: u64): i64 {
  const bytes = <u32>size;
  const error = refusal(load<u32>(worker + WORKER_TUNNEL_KEY_SET), bytes, flags);
  if (error) {
    memory.fill(to, 0, bytes);
    return error;
  }
  const key = worker + WORKER_TUNNEL_KEY;
  // the last 16 bytes are the only ones that shorter forms cut inside
  store<u32>(to, load<u32>(key));
  if (bytes >= LOCAL) {
    memory.copy(to + REMOTE, key + LOCAL, 16);
    if (bytes == SIZE) memory.copy(to + LOCAL, key + REMOTE, 16);
    store<u32>(to, load<u32>(key, LABEL), LABEL);
  } else memory.copy(to + REMOTE, key + LOCAL, bytes == REMOTE + 4 ? 4 : 16);
  if (bytes >= EXTRA) store<u16>(to, load<u16>(key, TOS), TOS);
  if (bytes >= LABEL) store<u16>(to, flags & GET_FLAGS ? load<u16>(worker + WORKER_TUNNEL_FLAGS) : 0, EXTRA);
  return 0;
}

function refusal(state: u32, size: u32, flags: u64): i64 {
  if (state == TUNNEL_NONE || flags & ~(IPV6 | GET_FLAGS)) return EINVAL;
  if ((state == TUNNEL_IPV6) != ((flags & IPV6) != 0)) return EPROTO;
  if (!is_size(size) || (size == REMOTE + 4 && state == TUNNEL_IPV6)) return EINVAL;
  return 0;
}

/** bpf_skb_set_tunnel_key. */
export function skb_set_tunnel_key(worker: usize, from: usize, size: u64, flags: u64): i64 {
  const bytes = <u32>size;
  if (flags & ~(IPV6 | ZERO_CSUM_TX | DONT_FRAGMENT | SEQ_NUMBER | NO_TUNNEL_KEY) || !is_size(bytes)) return EINVAL;
  const isIpv6 = (flags & IPV6) != 0;
  const label = bytes >= LOCAL ? load<u32>(from, LABEL) : 0;
  if ((!isIpv6 && label) || (bytes >= LABEL && load<u16>(from, EXTRA))) return EINVAL;
  const key = worker + WORKER_TUNNEL_KEY;
  memory.fill(key, 0, SIZE);
  memory.copy(key, from, bytes);
  if (!isIpv6) {
    memory.fill(key + REMOTE + 4, 0, 12);
    memory.fill(key + LOCAL + 4, 0, 12);
  }
  store<u32>(key, label & FLOW_LABEL, LABEL);
  let said: u32 = TUNNEL_KEY | TUNNEL_CSUM | TUNNEL_NOCACHE;
  if (flags & DONT_FRAGMENT) said |= TUNNEL_DONT_FRAGMENT;
  if (flags & ZERO_CSUM_TX) said &= ~TUNNEL_CSUM;
  if (flags & SEQ_NUMBER) said |= TUNNEL_SEQ;
  if (flags & NO_TUNNEL_KEY) said &= ~TUNNEL_KEY;
  store<u16>(worker + WORKER_TUNNEL_FLAGS, bswap<u16>(<u16>said));
  store<u32>(worker + WORKER_TUNNEL_KEY_SET, isIpv6 ? TUNNEL_IPV6 : TUNNEL_IPV4);
  return 0;
}
