/** Addresses and routes over rtnetlink (include/uapi/linux/if_addr.h, rtnetlink.h). */
import { ArgumentError } from '@tailrace/bpf';
import { Family, formatAddress, type Prefix, parseAddress, parsePrefix } from './address.ts';
import { requireInterface } from './interface.ts';
import { type Attribute, decodeAttributes, encodePayload, NetlinkFlag, type RouteSocket } from './netlink.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
/** IPv6: usable at once, without asking the link for duplicates. */
const IFA_F_NODAD = 2;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTNH_F_ONLINK = 4;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;

/** An address of an interface. */
export interface InterfaceAddress {
  readonly index: number;
  /** With its prefix length: `10.0.0.1/24`. */
  readonly address: string;
}

/** A route of the main table. At least one of `via` and `interface` is given. */
export interface Route {
  /** `10.1.0.0/16`, or `default`, which is IPv4's unless `via` is an IPv6 address. */
  readonly to: string;
  /** The gateway's address. */
  readonly via?: string;
  /** Name of the interface. */
  readonly interface?: string;
  /** Takes the gateway as reachable on the interface though no prefix there holds it. */
  readonly onlink?: boolean;
  /** Source address that the kernel prefers on this route. */
  readonly source?: string;
  /** Lower wins. */
  readonly metric?: number;
}

/** Gives an interface an address with its prefix length, `10.0.0.1/24`. Throws NetlinkError (EEXIST). */
export function addAddress(socket: RouteSocket, name: string, address: string): void {
  const flags = NetlinkFlag.create | NetlinkFlag.exclusive;
  socket.request(`add address ${address} to ${name}`, RTM_NEWADDR, flags, addressPayload(socket, name, address));
}

/** Takes an address away. Throws NetlinkError (EADDRNOTAVAIL where it was not there). */
export function deleteAddress(socket: RouteSocket, name: string, address: string): void {
  socket.request(`delete address ${address} of ${name}`, RTM_DELADDR, 0, addressPayload(socket, name, address));
}

/** The addresses of all interfaces, or of one. Throws NetlinkError. */
export function listAddresses(socket: RouteSocket, name?: string): InterfaceAddress[] {
  const wanted = name === undefined ? undefined : requireInterface(socket, name).index;
  return socket.dump('list addresses', RTM_GETADDR, new Uint8Array(8)).flatMap(({ payload }) => {
    const attributes = decodeAttributes(payload.subarray(8));
    const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
    const index = new DataView(payload.buffer, payload.byteOffset, 8).getUint32(4, true);
    if (!bytes || (wanted !== undefined && index !== wanted)) return [];
    return [{ index, address: `${formatAddress(bytes)}/${payload[1]}` }];
  });
}

/** Adds a route. Throws NetlinkError (EEXIST, ENETUNREACH where the gateway is on no link). */
export function addRoute(socket: RouteSocket, route: Route): void {
  const flags = NetlinkFlag.create | NetlinkFlag.exclusive;
  socket.request(`add route to ${route.to}`, RTM_NEWROUTE, flags, routePayload(socket, route));
}

/** Deletes a route. Throws NetlinkError (ESRCH where there is none). */
export function deleteRoute(socket: RouteSocket, route: Route): void {
  socket.request(`delete route to ${route.to}`, RTM_DELROUTE, 0, routePayload(socket, route));
}

function addressPayload(socket: RouteSocket, name: string, text: string): Uint8Array {
  const { family, bytes, length } = parsePrefix(text);
  const { index } = requireInterface(socket, name);
  // struct ifaddrmsg: family u8, prefix length u8, flags u8, scope u8, index u32.
  const header = new Uint8Array(8);
  header[0] = Family[family];
  header[1] = length;
  new DataView(header.buffer).setUint32(4, index, true);
  const attributes: Attribute[] = [
    [IFA_LOCAL, bytes],
    [IFA_ADDRESS, bytes],
  ];
  if (family === 'ipv6') attributes.push([IFA_FLAGS, IFA_F_NODAD]);
  return encodePayload(header, attributes);
}

function routePayload(socket: RouteSocket, route: Route): Uint8Array {
  if (route.via === undefined && route.interface === undefined) {
    throw new ArgumentError(`the route to ${route.to} needs a gateway or an interface`);
  }
  const via = route.via === undefined ? undefined : parseAddress(route.via);
  const to = destination(route.to, via);
  if (via && via.family !== to.family) {
    throw new ArgumentError(`the route to ${route.to} and its gateway ${route.via} differ in address family`);
  }
  // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags u32.
  const header = new Uint8Array(12);
  const scope = via || to.family === 'ipv6' ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  header.set([Family[to.family], to.length, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST]);
  new DataView(header.buffer).setUint32(8, route.onlink ? RTNH_F_ONLINK : 0, true);
  const attributes: Attribute[] = [];
  if (to.length > 0) attributes.push([RTA_DST, to.bytes]);
  if (via) attributes.push([RTA_GATEWAY, via.bytes]);
  if (route.interface !== undefined) attributes.push([RTA_OIF, requireInterface(socket, route.interface).index]);
  if (route.source !== undefined) attributes.push([RTA_PREFSRC, parseAddress(route.source).bytes]);
  if (route.metric !== undefined) attributes.push([RTA_PRIORITY, route.metric]);
  return encodePayload(header, attributes);
}

function destination(to: string, via: Prefix | undefined): Prefix {
  if (to !== 'default') return parsePrefix(to);
  const family = via?.family ?? 'ipv4';
  return { family, bytes: new Uint8Array(family === 'ipv4' ? 4 : 16), length: 0 };
}
