/**
 * Link layers of captures: which are read, and how a packet of each becomes an Ethernet frame, which is what stages work on.
 * Numbers are LINKTYPE_ values (https://www.tcpdump.org/linktypes.html).
 */
import { CaptureError, type CapturePlace } from './capture-error.ts';

/** The link types that captures are read of. */
export const LinkType = {
  null: 0,
  ethernet: 1,
  /** Raw IP as some systems number it in their files. */
  rawBsd: 12,
  rawOpenBsd: 14,
  raw: 101,
  loopback: 108,
  linuxCooked: 113,
  ipv4: 228,
  ipv6: 229,
  linuxCooked2: 276,
} as const;

/** One of the link types that captures are read of. */
export type LinkType = (typeof LinkType)[keyof typeof LinkType];

/** One packet of a capture. */
export interface CapturedPacket {
  /**
   * What was captured, from the link layer's header on, without a frame check sequence where the capture says that it has
   * one. A view into the chunk that was read: it stays valid for as long as it is held, and holds that chunk (of a file,
   * 1 MiB) in memory; copy what is to be kept for long. Of a capture given as bytes it is a view into those.
   */
  readonly bytes: Uint8Array;
  /** Nanoseconds since 1970; what is finer is cut off. 0 where the capture has none (simple packet blocks). */
  readonly timestampNs: bigint;
  /** Length on the wire in bytes, never less than that of `bytes`. */
  readonly originalLength: number;
  readonly linkType: LinkType;
  /** Interfaces of a capture are counted from 0 through all its sections; a pcap file has one. */
  readonly interfaceIndex: number;
}

const known: ReadonlySet<number> = new Set(Object.values(LinkType));

/** @throws CaptureError for a link type that captures are not read of; `what` is the file header or the block that has it. */
export function checkLinkType(linkType: number, place: CapturePlace, what: string): LinkType {
  if (known.has(linkType)) return linkType as LinkType;
  throw new CaptureError(place, `${what}: link type ${linkType}, expected one of ${[...known].join(', ')}`, {
    hint: 'captures of Ethernet, raw IP, Linux cooked and loopback interfaces are read',
  });
}

const ETHERNET_HEADER = 14;
const EtherType = { ipv4: 0x0800, ipv6: 0x86dd } as const;

/** A value of the Ethernet type field below this is a length. */
const LEAST_ETHER_TYPE = 0x0600;

/** ARPHRD_ values under which a cooked header's protocol is no EtherType: FRAD, 802.11 with radiotap, netlink. */
const foreignHardware: ReadonlySet<number> = new Set([770, 803, 824]);

/** Cooked protocols that stand for 802.3 frames: Novell's raw ones, and those with an LLC header. */
const SLL_802_3 = 1;
const SLL_802_2 = 4;

/** AF_INET, and AF_INET6 of Linux, OpenBSD and NetBSD, FreeBSD, Darwin. */
const families: ReadonlyMap<number, number> = new Map([
  [2, EtherType.ipv4],
  [10, EtherType.ipv6],
  [24, EtherType.ipv6],
  [28, EtherType.ipv6],
  [30, EtherType.ipv6],
]);

/**
 * The packet as an Ethernet frame: itself if it is one; otherwise a copy whose link-layer header is replaced by an Ethernet
 * header with addresses of zero and the EtherType that the header, or the version of a raw IP packet, tells. Undefined where
 * that tells none: cut inside it, neither IPv4 nor IPv6, a protocol without EtherType (netlink, radiotap).
 */
export function toEthernet(packet: CapturedPacket): CapturedPacket | undefined {
  if (packet.linkType === LinkType.ethernet) return packet;
  const header = headerLengthOf(packet.linkType);
  if (packet.bytes.length < header) return undefined;
  const type = etherTypeOf(packet, header);
  if (type === undefined) return undefined;
  const bytes = new Uint8Array(ETHERNET_HEADER + packet.bytes.length - header);
  bytes[12] = type >> 8;
  bytes[13] = type & 0xff;
  bytes.set(packet.bytes.subarray(header), ETHERNET_HEADER);
  return { ...packet, bytes, originalLength: packet.originalLength - header + ETHERNET_HEADER, linkType: LinkType.ethernet };
}

function headerLengthOf(linkType: LinkType): number {
  switch (linkType) {
    case LinkType.null:
    case LinkType.loopback:
      return 4;
    case LinkType.linuxCooked:
      return 16;
    case LinkType.linuxCooked2:
      return 20;
    default:
      return 0;
  }
}

function etherTypeOf(packet: CapturedPacket, header: number): number | undefined {
  const { bytes } = packet;
  switch (packet.linkType) {
    case LinkType.ipv4:
      return EtherType.ipv4;
    case LinkType.ipv6:
      return EtherType.ipv6;
    case LinkType.null:
    case LinkType.loopback: {
      // the family is in the byte order of the machine that captured (null) or of the network (loopback): small either way
      const family =
        uint16At(bytes, 0) === 0 ? uint16At(bytes, 2) : (bytes[2] as number) === 0 && bytes[3] === 0 ? littleUint16At(bytes, 0) : 0;
      return families.get(family);
    }
    case LinkType.linuxCooked:
      return cookedType(uint16At(bytes, 2), uint16At(bytes, 14), packet.originalLength - header);
    case LinkType.linuxCooked2:
      return cookedType(uint16At(bytes, 8), uint16At(bytes, 0), packet.originalLength - header);
    default: {
      const version = (bytes[0] ?? 0) >> 4;
      return version === 4 ? EtherType.ipv4 : version === 6 ? EtherType.ipv6 : undefined;
    }
  }
}

function cookedType(hardware: number, protocol: number, length: number): number | undefined {
  if (foreignHardware.has(hardware)) return undefined;
  if (protocol >= LEAST_ETHER_TYPE) return protocol;
  const framed = protocol === SLL_802_3 || protocol === SLL_802_2;
  return framed && length < LEAST_ETHER_TYPE ? length : undefined;
}

function uint16At(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function littleUint16At(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}
