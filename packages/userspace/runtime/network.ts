/**
 * The network as programs may ask for it: which way an address lies, and what fits an interface. The tables are in memory,
 * written by the engine (`src/network.ts`); without them there is no interface and no route.
 */
import {
  CONTEXT_SKB,
  CONTEXT_XDP,
  LINK_FORWARDS,
  LINK_HEADER,
  LINK_INDEX,
  LINK_MTU,
  LINK_SIZE,
  NETWORK_LINKS,
  NETWORK_ROUTES4,
  NETWORK_ROUTES6,
  PACKET_CONTEXT,
  ROUTE_BLACKHOLE,
  ROUTE_DMAC,
  ROUTE_GATEWAY,
  ROUTE_GATEWAY_FAMILY,
  ROUTE_HAS_NEIGHBOUR,
  ROUTE_INDEX,
  ROUTE_KIND,
  ROUTE_METRIC,
  ROUTE_MTU,
  ROUTE_PREFIX,
  ROUTE_PREFIX_LENGTH,
  ROUTE_PROHIBIT,
  ROUTE_SIZE,
  ROUTE_SMAC,
  ROUTE_SOURCE,
  ROUTE_TABLE,
  ROUTE_TO_LINK,
  ROUTE_UNREACHABLE,
  SHARED,
  SKB_GSO_SIZE,
  SKB_INDEX,
  WORKER_CONTEXT,
  WORKER_PACKET,
  XDP_INGRESS_INDEX,
} from '../src/layout';
import { EAFNOSUPPORT, EINVAL, ENODEV } from './errno';
import { packet_length } from './packet';

const AF_INET = 2;
const AF_INET6 = 10;
const DIRECT: u64 = 1;
const OUTPUT: u64 = 2;
const SKIP_NEIGH: u64 = 4;
const TBID: u64 = 8;
const SRC: u64 = 16;
const MARK: u64 = 32;

/** struct bpf_fib_lookup. */
const FIB_BYTES: u32 = 64;
const FAMILY = 0;
const TOTAL_LENGTH = 6;
const INDEX = 8;
const METRIC = 12;
const SOURCE = 16;
const DESTINATION = 32;
const VLAN = 48;
const TABLE = 48;
const SMAC = 52;
const DMAC = 58;

/** BPF_FIB_LKUP_RET_*. */
const SUCCESS: i64 = 0;
const BLACKHOLE: i64 = 1;
const UNREACHABLE: i64 = 2;
const PROHIBIT: i64 = 3;
const NOT_FWDED: i64 = 4;
const FWD_DISABLED: i64 = 5;
const NO_NEIGH: i64 = 7;
const FRAG_NEEDED: i64 = 8;

/** BPF_MTU_CHK_*. */
const SEGMENTS: u64 = 1;
const MTU_FRAG_NEEDED: i64 = 1;

/** A link of the table by its ifindex; 0 where there is none. */
export function link_at(ifindex: u32): usize {
  const table = load<u32>(SHARED + NETWORK_LINKS);
  const count = load<u32>(SHARED + NETWORK_LINKS, 4);
  for (let at: u32 = 0; at < count; at++) {
    const link: usize = table + at * LINK_SIZE;
    if (load<u32>(link, LINK_INDEX) == ifindex) return link;
  }
  return 0;
}

/** Whether the first bits of an address are those of a prefix. */
function fits(address: usize, prefix: usize, bits: u32): bool {
  const bytes = bits >> 3;
  for (let at: u32 = 0; at < bytes; at++) if (load<u8>(address + at) != load<u8>(prefix + at)) return false;
  const rest = bits & 7;
  if (rest == 0) return true;
  return ((load<u8>(address + bytes) ^ load<u8>(prefix + bytes)) & (0xff00 >> rest) & 0xff) == 0;
}

/** The route with the longest prefix; of any table where `table` is 0. */
function route_to(address: usize, isIpv6: bool, table: u32): usize {
  const head: usize = SHARED + (isIpv6 ? NETWORK_ROUTES6 : NETWORK_ROUTES4);
  const first = load<u32>(head);
  const count = load<u32>(head, 4);
  for (let at: u32 = 0; at < count; at++) {
    const route: usize = first + at * ROUTE_SIZE;
    if (table && load<u32>(route, ROUTE_TABLE) != table) continue;
    if (fits(address, route + ROUTE_PREFIX, load<u8>(route, ROUTE_PREFIX_LENGTH))) return route;
  }
  return 0;
}

/** bpf_fib_lookup. */
export function fib_lookup(worker: usize, params: usize, size: u64, flags: u64): i64 {
  if (<u32>size < FIB_BYTES || <u32>flags & ~(DIRECT | OUTPUT | SKIP_NEIGH | TBID | SRC | MARK)) return EINVAL;
  const family = load<u8>(params, FAMILY);
  if (family != AF_INET && family != AF_INET6) return EAFNOSUPPORT;
  const isIpv6 = family == AF_INET6;
  const from = link_at(load<u32>(params, INDEX));
  if (!from) return ENODEV;
  if (!load<u32>(from, LINK_FORWARDS)) return FWD_DISABLED;
  const table = flags & DIRECT && flags & TBID ? load<u32>(params, TABLE) : 0;
  const route = route_to(params + DESTINATION, isIpv6, table);
  if (!route) return NOT_FWDED;
  const kind = load<u8>(route, ROUTE_KIND);
  if (kind != ROUTE_TO_LINK) return refusal_of(kind);
  const link = link_at(load<u32>(route, ROUTE_INDEX));
  if (!link) return NOT_FWDED;
  const routeMtu = load<u32>(route, ROUTE_MTU);
  const mtu = routeMtu ? routeMtu : load<u32>(link, LINK_MTU);
  const length = <u32>load<u16>(params, TOTAL_LENGTH);
  if (length > mtu) {
    store<u16>(params, <u16>mtu, TOTAL_LENGTH);
    return FRAG_NEEDED;
  }
  store<u32>(params, load<u32>(route, ROUTE_INDEX), INDEX);
  store<u32>(params, load<u32>(route, ROUTE_METRIC), METRIC);
  if (flags & SRC) memory.copy(params + SOURCE, route + ROUTE_SOURCE, isIpv6 ? 16 : 4);
  next_hop(params, route);
  const hasNeighbour = load<u8>(route, ROUTE_HAS_NEIGHBOUR) != 0;
  if (!(flags & SKIP_NEIGH)) {
    if (!hasNeighbour) return NO_NEIGH;
    memory.copy(params + DMAC, route + ROUTE_DMAC, 6);
    memory.copy(params + SMAC, route + ROUTE_SMAC, 6);
  }
  store<u32>(params, 0, VLAN);
  // a length that was given has been looked at; else the packet's own is
  if (!length && load<u32>(worker + WORKER_PACKET, PACKET_CONTEXT) == CONTEXT_SKB && !skb_fits(worker, link)) {
    store<u16>(params, <u16>load<u32>(link, LINK_MTU), TOTAL_LENGTH);
    return FRAG_NEEDED;
  }
  store<u16>(params, <u16>mtu, TOTAL_LENGTH);
  return SUCCESS;
}

function refusal_of(kind: u32): i64 {
  if (kind == ROUTE_BLACKHOLE) return BLACKHOLE;
  if (kind == ROUTE_UNREACHABLE) return UNREACHABLE;
  return kind == ROUTE_PROHIBIT ? PROHIBIT : NOT_FWDED;
}

/** The gateway takes the destination's place; one of IPv6 may serve a route of IPv4 (RFC 5549). */
function next_hop(params: usize, route: usize): void {
  const family = load<u8>(route, ROUTE_GATEWAY_FAMILY);
  if (!family) return;
  store<u8>(params, family, FAMILY);
  memory.copy(params + DESTINATION, route + ROUTE_GATEWAY, family == AF_INET6 ? 16 : 4);
}

function skb_fits(worker: usize, link: usize): bool {
  if (load<u32>(worker + WORKER_CONTEXT, SKB_GSO_SIZE)) return true;
  // with room for a VLAN tag
  return packet_length(worker) <= load<u32>(link, LINK_MTU) + load<u32>(link, LINK_HEADER) + 4;
}

/** bpf_check_mtu: 0 fits, 1 does not; the MTU is left at `mtu` (u32), which may hold a length without link header. */
export function check_mtu(worker: usize, ifindex: u64, mtu: usize, delta: u64, flags: u64): i64 {
  const isXdp = load<u32>(worker + WORKER_PACKET, PACKET_CONTEXT) == CONTEXT_XDP;
  const given = load<u32>(mtu);
  if (flags & ~SEGMENTS || (flags && (isXdp || <i32>delta || given))) return EINVAL;
  const own = load<u32>(worker + WORKER_CONTEXT + (isXdp ? XDP_INGRESS_INDEX : SKB_INDEX));
  const link = link_at(<u32>ifindex ? <u32>ifindex : own);
  if (!link) return ENODEV;
  const most = load<u32>(link, LINK_MTU);
  const header = load<u32>(link, LINK_HEADER);
  const length = <i64>(given ? given + header : packet_length(worker)) + <i64>(<i32>delta);
  store<u32>(mtu, most);
  if (length <= <i64>most + <i64>header) return 0;
  // rows of segments are cut to what fits
  if (!isXdp && load<u32>(worker + WORKER_CONTEXT, SKB_GSO_SIZE)) return 0;
  return MTU_FRAG_NEEDED;
}
