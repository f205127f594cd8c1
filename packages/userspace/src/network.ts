/**
 * The network as helpers see it (fib_lookup, check_mtu, clone_redirect): links and routes, laid out in memory as
 * `runtime/network.ts` reads them. An engine without such tables has no links and no routes.
 */
import { ArgumentError } from '@tailrace/bpf';
import {
  LINK_FORWARDS,
  LINK_HEADER,
  LINK_INDEX,
  LINK_MTU,
  LINK_SIZE,
  NETWORK_LINKS,
  NETWORK_ROUTES4,
  NETWORK_ROUTES6,
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
  ROUTE_TO_HERE,
  ROUTE_TO_LINK,
  ROUTE_UNREACHABLE,
  SHARED,
} from './layout.ts';
import type { MemoryViews } from './packet-state.ts';

/** An interface. */
export interface NetworkLink {
  readonly ifindex: number;
  /** Bytes without link header; default 1,500. */
  readonly mtu?: number;
  /** Bytes of link header; default 14. */
  readonly headerBytes?: number;
  /** Whether packets that come in there are routed on; default true. */
  readonly forwards?: boolean;
}

/** Where packets of a prefix go. Addresses are 4 or 16 bytes in network order, all of one family but the gateway's. */
export interface NetworkRoute {
  readonly prefix: Uint8Array;
  /** Bits of the prefix that count. */
  readonly prefixLength: number;
  /** Default `link`; the others end there. */
  readonly kind?: keyof typeof KINDS;
  /** The interface that leads there; 0 for those that end here. */
  readonly ifindex: number;
  /** Default none: the destination itself is the neighbour. */
  readonly gateway?: Uint8Array;
  /** The address to send from. */
  readonly source?: Uint8Array;
  /** Ethernet addresses of this end and of the neighbour, 6 bytes; without them fib_lookup finds no neighbour. */
  readonly neighbour?: { readonly source: Uint8Array; readonly destination: Uint8Array };
  /** Default the link's. */
  readonly mtu?: number;
  readonly metric?: number;
  /** Number of the table that it is in; default 254 (main). */
  readonly table?: number;
}

/** All of it. */
export interface Network {
  readonly links: readonly NetworkLink[];
  readonly routes: readonly NetworkRoute[];
}

const KINDS = {
  link: ROUTE_TO_LINK,
  here: ROUTE_TO_HERE,
  blackhole: ROUTE_BLACKHOLE,
  unreachable: ROUTE_UNREACHABLE,
  prohibit: ROUTE_PROHIBIT,
} as const;
const AF_INET = 2;
const AF_INET6 = 10;
const MAC_BYTES = 6;
const MAIN_TABLE = 254;
const ETHERNET_BYTES = 14;

/** Bytes that the tables take. */
export function networkBytes({ links, routes }: Network): number {
  return links.length * LINK_SIZE + routes.length * ROUTE_SIZE;
}

/**
 * Writes the tables to `address`, where `networkBytes` are free, and makes them the ones that helpers look at. Throws
 * ArgumentError, with nothing written, where an address is of no family or a number out of its range.
 */
export function writeNetwork(memory: MemoryViews, address: number, network: Network): void {
  for (const link of network.links) checkLink(link);
  for (const route of network.routes) checkRoute(route);
  const { view } = memory;
  const families = [4, 16].map((bytes) =>
    network.routes
      .filter(({ prefix }) => prefix.length === bytes)
      .sort((one, other) => other.prefixLength - one.prefixLength || (one.metric ?? 0) - (other.metric ?? 0)),
  );
  let at = address;
  const start = (head: number, count: number): void => {
    view.setUint32(SHARED + head, count === 0 ? 0 : at, true);
    view.setUint32(SHARED + head + 4, count, true);
  };
  start(NETWORK_LINKS, network.links.length);
  for (const { ifindex, mtu = 1500, headerBytes = ETHERNET_BYTES, forwards = true } of network.links) {
    view.setUint32(at + LINK_INDEX, ifindex, true);
    view.setUint32(at + LINK_MTU, mtu, true);
    view.setUint32(at + LINK_HEADER, headerBytes, true);
    view.setUint32(at + LINK_FORWARDS, forwards ? 1 : 0, true);
    at += LINK_SIZE;
  }
  for (const [family, head] of [NETWORK_ROUTES4, NETWORK_ROUTES6].entries()) {
    const routes = families[family] as readonly NetworkRoute[];
    start(head, routes.length);
    for (const route of routes) {
      writeRoute(memory, at, route);
      at += ROUTE_SIZE;
    }
  }
}

/** Makes helpers see no network again. */
export function clearNetwork({ u8 }: Pick<MemoryViews, 'u8'>): void {
  u8.fill(0, SHARED + NETWORK_LINKS, SHARED + NETWORK_ROUTES6 + 8);
}

function writeRoute({ u8, view }: MemoryViews, at: number, route: NetworkRoute): void {
  const { kind = 'link', gateway, neighbour, source } = route;
  u8.fill(0, at, at + ROUTE_SIZE);
  u8[at + ROUTE_PREFIX_LENGTH] = route.prefixLength;
  u8[at + ROUTE_KIND] = KINDS[kind];
  u8[at + ROUTE_GATEWAY_FAMILY] = gateway === undefined ? 0 : gateway.length === 4 ? AF_INET : AF_INET6;
  u8[at + ROUTE_HAS_NEIGHBOUR] = neighbour ? 1 : 0;
  view.setUint32(at + ROUTE_INDEX, route.ifindex, true);
  u8.set(route.prefix, at + ROUTE_PREFIX);
  if (gateway) u8.set(gateway, at + ROUTE_GATEWAY);
  if (source) u8.set(source, at + ROUTE_SOURCE);
  if (neighbour) {
    u8.set(neighbour.source, at + ROUTE_SMAC);
    u8.set(neighbour.destination, at + ROUTE_DMAC);
  }
  view.setUint32(at + ROUTE_MTU, route.mtu ?? 0, true);
  view.setUint32(at + ROUTE_METRIC, route.metric ?? 0, true);
  view.setUint32(at + ROUTE_TABLE, route.table ?? MAIN_TABLE, true);
}

function checkLink({ ifindex, mtu = 1500, headerBytes = ETHERNET_BYTES }: NetworkLink): void {
  checkNumber('ifindex', ifindex, 1, 0x7fff_ffff);
  checkNumber(`mtu of link ${ifindex}`, mtu, 1, 0x7fff_ffff);
  checkNumber(`headerBytes of link ${ifindex}`, headerBytes, 0, 255);
}

function checkRoute({
  prefix,
  prefixLength,
  kind = 'link',
  ifindex,
  gateway,
  source,
  neighbour,
  mtu = 0,
  metric = 0,
  table,
}: NetworkRoute): void {
  if (prefix.length !== 4 && prefix.length !== 16) throw new ArgumentError(`a route's prefix takes 4 or 16 bytes, got ${prefix.length}`);
  checkNumber("a route's prefixLength", prefixLength, 0, prefix.length * 8);
  checkNumber("a route's ifindex", ifindex, kind === 'link' ? 1 : 0, 0x7fff_ffff);
  if (gateway && gateway.length !== prefix.length && gateway.length !== 16)
    throw new ArgumentError(`a gateway of ${gateway.length} bytes is not for a prefix of ${prefix.length}`);
  if (source && source.length !== prefix.length)
    throw new ArgumentError(`a source of ${source.length} bytes is not for a prefix of ${prefix.length}`);
  for (const mac of neighbour ? [neighbour.source, neighbour.destination] : [])
    if (mac.length !== MAC_BYTES) throw new ArgumentError(`an ethernet address takes ${MAC_BYTES} bytes, got ${mac.length}`);
  checkNumber("a route's mtu", mtu, 0, 0x7fff_ffff);
  checkNumber("a route's metric", metric, 0, 0xffff_ffff);
  checkNumber("a route's table", table ?? MAIN_TABLE, 1, 0xffff_ffff);
}

function checkNumber(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new ArgumentError(`${what} must be ${least} to ${most}, got ${value}`);
}
