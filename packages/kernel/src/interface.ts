/**
 * Network interfaces over rtnetlink: what there is, veth pairs, and their settings (include/uapi/linux/if_link.h).
 * Never from /sys/class/net, which shows the namespace that mounted it.
 */
import { ArgumentError } from '@tailrace/bpf';
import { formatMac, parseMac } from './address.ts';
import { Errno } from './errno.ts';
import {
  type Attribute,
  attributeText,
  attributeU32,
  decodeAttributes,
  encodePayload,
  NetlinkError,
  NetlinkFlag,
  type NetlinkMessage,
  type RouteSocket,
} from './netlink.ts';
import type { NetworkNamespace } from './netns.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_FD = 28;
const IFLA_XDP = 43;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_UDP_ZERO_CSUM6_RX = 20;
const IFLA_VXLAN_COLLECT_METADATA = 25;
/** The port that IANA gave to VXLAN. */
const vxlanPort = 4789;
const IFLA_XDP_DRV_PROG_ID = 5;
const IFLA_XDP_SKB_PROG_ID = 6;
const IFLA_XDP_HW_PROG_ID = 7;
const IFF_UP = 1;
const IFF_LOWER_UP = 1 << 16;

/** How an XDP program is attached. */
export type XdpMode = 'native' | 'generic' | 'offload';

/** An XDP program on an interface. */
export interface AttachedXdp {
  readonly mode: XdpMode;
  /** The kernel's id of the program. */
  readonly programId: number;
}

/** A network interface as the kernel describes it. */
export interface InterfaceInfo {
  readonly index: number;
  readonly name: string;
  /** Hardware type (ARPHRD_*): 1 is Ethernet, 772 loopback, 65534 none. */
  readonly type: number;
  /** Driver kind where the kernel has one, e.g. `veth`. */
  readonly kind: string | undefined;
  /** `02:00:00:00:00:01`; undefined where it has none. */
  readonly mac: string | undefined;
  readonly mtu: number;
  /** Switched on. */
  readonly up: boolean;
  /** Switched on and connected. */
  readonly carrier: boolean;
  readonly xdp: readonly AttachedXdp[];
}

/** One end of a veth pair. */
export interface VethEnd {
  /** At most 15 bytes. */
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Where this end is put; the socket's own namespace unless given. */
  readonly namespace?: NetworkNamespace;
  /**
   * Interface index; the kernel's choice unless given. Ends in two namespaces that happen to have equal ones take up to
   * a second to come up (net/core/link_watch.c, linkwatch_urgent_event), so give different ones.
   */
  readonly index?: number;
}

/** A VXLAN device without a network of its own: programs of TC give and read each packet's tunnel key. */
export interface VxlanDevice {
  /** At most 15 bytes. */
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** UDP port; 4789 unless given. A namespace can have one such device for each port. */
  readonly port?: number;
}

/** What can be changed of an interface. */
export interface InterfaceChange {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  /** Moves it into another namespace, which takes it down. */
  readonly namespace?: NetworkNamespace;
}

/** All interfaces, by index. Throws NetlinkError. */
export function listInterfaces(socket: RouteSocket): InterfaceInfo[] {
  return socket.dump('list interfaces', RTM_GETLINK, linkHeader()).map(readInterface);
}

/** The interface of that name; undefined where there is none. Throws NetlinkError. */
export function findInterface(socket: RouteSocket, name: string): InterfaceInfo | undefined {
  const payload = encodePayload(linkHeader(), [[IFLA_IFNAME, interfaceName(name)]]);
  try {
    const [message] = socket.get(`look up interface ${name}`, RTM_GETLINK, payload);
    return message && readInterface(message);
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === Errno.ENODEV) return undefined;
    throw error;
  }
}

/** The interface of that name. Throws ArgumentError that lists the interfaces there are. */
export function requireInterface(socket: RouteSocket, name: string): InterfaceInfo {
  const found = findInterface(socket, name);
  if (found) return found;
  const names = listInterfaces(socket).map((info) => info.name);
  throw new ArgumentError(`there is no interface ${name}`, { hint: `interfaces here: ${names.join(', ')}` });
}

/** Makes a veth pair, each end in its namespace. Throws NetlinkError (EEXIST where a name is taken). */
export function createVeth(socket: RouteSocket, end: VethEnd, peer: VethEnd): void {
  const payload = encodePayload(linkHeader(end.index), [
    ...newAttributes(end),
    [
      IFLA_LINKINFO,
      [
        [IFLA_INFO_KIND, 'veth'],
        [IFLA_INFO_DATA, [[VETH_INFO_PEER, encodePayload(linkHeader(peer.index), newAttributes(peer))]]],
      ],
    ],
  ]);
  const flags = NetlinkFlag.create | NetlinkFlag.exclusive;
  socket.request(`create veth pair ${end.name}, ${peer.name}`, RTM_NEWLINK, flags, payload);
}

/** Makes a VXLAN device that takes its tunnel keys from programs, down. Throws NetlinkError (EEXIST; EOPNOTSUPP without the driver). */
export function createVxlan(socket: RouteSocket, device: VxlanDevice): void {
  const port = device.port ?? vxlanPort;
  if (!Number.isInteger(port) || port < 1 || port > 0xffff) throw new ArgumentError(`a VXLAN port is 1 to 65535, got ${port}`);
  const payload = encodePayload(linkHeader(), [
    ...newAttributes(device),
    [
      IFLA_LINKINFO,
      [
        [IFLA_INFO_KIND, 'vxlan'],
        [
          IFLA_INFO_DATA,
          [
            [IFLA_VXLAN_COLLECT_METADATA, Uint8Array.of(1)],
            [IFLA_VXLAN_LEARNING, Uint8Array.of(0)],
            // Senders may leave out the checksum of the outer UDP over IPv6 (RFC 6935); without this the packets are dropped.
            [IFLA_VXLAN_UDP_ZERO_CSUM6_RX, Uint8Array.of(1)],
            [IFLA_VXLAN_PORT, Uint8Array.of(port >> 8, port & 0xff)],
          ],
        ],
      ],
    ],
  ]);
  socket.request(`create VXLAN device ${device.name}`, RTM_NEWLINK, NetlinkFlag.create | NetlinkFlag.exclusive, payload);
}

/** Changes an interface. Throws ArgumentError where there is none of that name, NetlinkError. */
export function changeInterface(socket: RouteSocket, name: string, change: InterfaceChange): void {
  const { index } = requireInterface(socket, name);
  const header = linkHeader(index);
  if (change.up !== undefined) {
    const view = new DataView(header.buffer);
    view.setUint32(8, change.up ? IFF_UP : 0, true);
    view.setUint32(12, IFF_UP, true);
  }
  const attributes: Attribute[] = [];
  if (change.mtu !== undefined) attributes.push([IFLA_MTU, change.mtu]);
  if (change.mac !== undefined) attributes.push([IFLA_ADDRESS, parseMac(change.mac)]);
  if (change.namespace) attributes.push([IFLA_NET_NS_FD, change.namespace.fd]);
  socket.request(`change interface ${name}`, RTM_NEWLINK, 0, encodePayload(header, attributes));
}

/** Deletes an interface, and a veth's other end with it. False where there was none. Throws NetlinkError. */
export function deleteInterface(socket: RouteSocket, name: string): boolean {
  const found = findInterface(socket, name);
  if (!found) return false;
  socket.request(`delete interface ${name}`, RTM_DELLINK, 0, linkHeader(found.index));
  return true;
}

/** struct ifinfomsg: family, pad, type u16, index s32, flags u32, change u32. */
function linkHeader(index = 0): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(16);
  new DataView(header.buffer).setInt32(4, index, true);
  return header;
}

function newAttributes({ name, mac, mtu, namespace }: VethEnd): Attribute[] {
  const attributes: Attribute[] = [[IFLA_IFNAME, interfaceName(name)]];
  if (mac !== undefined) attributes.push([IFLA_ADDRESS, parseMac(mac)]);
  if (mtu !== undefined) attributes.push([IFLA_MTU, mtu]);
  if (namespace) attributes.push([IFLA_NET_NS_FD, namespace.fd]);
  return attributes;
}

/** IFNAMSIZ is 16 with the NUL; the kernel takes no slash, colon or space (dev_valid_name). */
function interfaceName(name: string): string {
  if (name === '' || name === '.' || name === '..' || Buffer.byteLength(name) > 15 || /[/:\s\0]/.test(name)) {
    throw new ArgumentError(`${JSON.stringify(name)} is no interface name`, { hint: 'at most 15 bytes, no / : or space' });
  }
  return name;
}

function readInterface({ payload }: NetlinkMessage): InterfaceInfo {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const attributes = decodeAttributes(payload.subarray(16));
  const flags = view.getUint32(8, true);
  const address = attributes.get(IFLA_ADDRESS);
  const info = decodeAttributes(attributes.get(IFLA_LINKINFO) ?? new Uint8Array());
  return {
    index: view.getInt32(4, true),
    name: attributeText(attributes.get(IFLA_IFNAME)) ?? '',
    type: view.getUint16(2, true),
    kind: attributeText(info.get(IFLA_INFO_KIND)),
    mac: address?.length === 6 ? formatMac(address) : undefined,
    mtu: attributeU32(attributes.get(IFLA_MTU)) ?? 0,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    xdp: readXdp(decodeAttributes(attributes.get(IFLA_XDP) ?? new Uint8Array())),
  };
}

function readXdp(attributes: ReadonlyMap<number, Uint8Array>): AttachedXdp[] {
  const kinds = [
    ['native', IFLA_XDP_DRV_PROG_ID],
    ['generic', IFLA_XDP_SKB_PROG_ID],
    ['offload', IFLA_XDP_HW_PROG_ID],
  ] as const;
  return kinds.flatMap(([mode, type]) => {
    const programId = attributeU32(attributes.get(type));
    return programId === undefined ? [] : [{ mode, programId }];
  });
}
