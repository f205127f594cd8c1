/**
 * Where a packet's headers are, found from the RFCs alone: compiled programs must find the same. Every answer is an
 * offset from the packet's first byte, or undefined; nothing here moves or writes.
 *
 * IPv6 extension headers are hop-by-hop options, routing, destination options and fragment (RFC 8200, section 4), in any
 * order. Each must lie within the payload length and within the packet; what is behind one that does not, behind the
 * sixth, or behind a second fragment header, is not found.
 */
import { Arp, Ethernet, Gre, Gue, Icmp, Icmpv6, Ipv4, Ipv6, type Layout, Ports, Tcp, Udp, Vlan, Vxlan } from '@tailrace/stage';

/** A VLAN tag that the driver took out of the frame. */
export interface OffloadedVlan {
  /** 3 bits priority, 1 bit drop eligible, 12 bits id. */
  readonly tci: number;
  /** What announced it: 0x8100 unless said otherwise. */
  readonly tpid?: number;
}

/** A packet's bytes. */
export interface FrameBytes {
  readonly length: number;
  readonly offloadedVlan: OffloadedVlan | undefined;
  byte(offset: number): number;
  /** Big-endian. */
  word(offset: number): number;
}

const etherTypes = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, qinq: 0x88a8 } as const;
const extensionHeaders = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 } as const;
const MAX_TAGS = 2;
const MAX_EXTENSION_HEADERS = 6;
/** Reserved by IANA. */
const NO_PROTOCOL = 255;

/** The headers of layer 4, with the protocols that they serve. */
const transports = {
  tcp: { layout: Tcp.layout, ipv4: [6], ipv6: [6] },
  udp: { layout: Udp.layout, ipv4: [17], ipv6: [17] },
  icmp: { layout: Icmp.layout, ipv4: [1], ipv6: [] },
  icmpv6: { layout: Icmpv6.layout, ipv4: [], ipv6: [58] },
  ports: { layout: Ports.layout, ipv4: [6, 17], ipv6: [6, 17] },
  gre: { layout: Gre.layout, ipv4: [47], ipv6: [47] },
} as const satisfies Readonly<Record<string, { layout: Layout; ipv4: readonly number[]; ipv6: readonly number[] }>>;
export type TransportName = keyof typeof transports;

/** A header: where it starts, and its schema's layout. */
export interface FoundHeader {
  readonly layout: Layout;
  readonly offset: number;
}

/** The tags, outermost first, at most two; a tag in the frame counts where its 4 bytes are there. */
export function tags(frame: FrameBytes): readonly number[] {
  return behindEthernet(frame).tags;
}

/** Where the outermost tag of those in the frame's bytes starts; undefined without one. */
export function tagInFrame(frame: FrameBytes): number | undefined {
  const { size } = Ethernet.layout;
  return isTag(frame, size) ? size : undefined;
}

export function arp(frame: FrameBytes): FoundHeader | undefined {
  const offset = network(frame, etherTypes.arp, Arp.layout);
  // What tells that the addresses are of these lengths.
  if (offset === undefined || frame.word(offset + 2) !== etherTypes.ipv4) return undefined;
  return frame.byte(offset + 4) === 6 && frame.byte(offset + 5) === 4 ? { layout: Arp.layout, offset } : undefined;
}

/** Version 4, and at least 5 words of header. */
export function ipv4(frame: FrameBytes): FoundHeader | undefined {
  const offset = network(frame, etherTypes.ipv4, Ipv4.layout);
  if (offset === undefined) return undefined;
  const first = frame.byte(offset);
  return first >>> 4 === 4 && (first & 15) >= 5 ? { layout: Ipv4.layout, offset } : undefined;
}

/** Version 6. */
export function ipv6(frame: FrameBytes): FoundHeader | undefined {
  const offset = network(frame, etherTypes.ipv6, Ipv6.layout);
  return offset !== undefined && frame.byte(offset) >>> 4 === 6 ? { layout: Ipv6.layout, offset } : undefined;
}

/** What lies behind the IP header, or headers. */
export interface Upper {
  readonly family: 'ipv4' | 'ipv6' | 'none';
  readonly protocol: number;
  /** Where it starts; undefined in fragments but the first. */
  readonly start: number | undefined;
  /** Bytes of it by the IP header's own length. */
  readonly room: number;
  /** A piece of a larger packet. */
  readonly isFragment: boolean;
  /** Where the IPv6 fragment header starts. */
  readonly fragment: number | undefined;
}

export function upper(frame: FrameBytes): Upper {
  const four = ipv4(frame);
  if (four !== undefined) return behindIpv4(frame, four.offset);
  const six = ipv6(frame);
  if (six !== undefined) return behindIpv6(frame, six.offset);
  return { family: 'none', protocol: NO_PROTOCOL, start: undefined, room: 0, isFragment: false, fragment: undefined };
}

/** There where the protocol is right, and both the IP header's length and the packet hold it. */
export function transport(frame: FrameBytes, name: TransportName): FoundHeader | undefined {
  const wanted = transports[name];
  const { family, protocol, start, room } = upper(frame);
  const protocols: readonly number[] = family === 'none' ? [] : wanted[family];
  if (start === undefined || !protocols.includes(protocol) || room < wanted.layout.size) return undefined;
  return fits(frame, wanted.layout, start);
}

/** What UDP to a port carries; UDP's own length must hold it too. */
export function tunnel(frame: FrameBytes, name: 'vxlan' | 'gue', port = name === 'vxlan' ? 4789 : 6080): FoundHeader | undefined {
  const udp = transport(frame, 'udp');
  if (udp === undefined || frame.word(udp.offset + 2) !== port) return undefined;
  const layout = name === 'vxlan' ? Vxlan.layout : Gue.layout;
  const needed = Udp.layout.size + layout.size;
  if (frame.word(udp.offset + 4) < needed || upper(frame).room < needed) return undefined;
  return fits(frame, layout, udp.offset + Udp.layout.size);
}

function behindIpv4(frame: FrameBytes, ip: number): Upper {
  const headerLength = (frame.byte(ip) & 15) * 4;
  const flagsAndOffset = frame.word(ip + 6);
  return {
    family: 'ipv4',
    protocol: frame.byte(ip + 9),
    start: (flagsAndOffset & 0x1fff) === 0 ? ip + headerLength : undefined,
    room: frame.word(ip + 2) - headerLength,
    isFragment: (flagsAndOffset & 0x3fff) !== 0,
    fragment: undefined,
  };
}

function behindIpv6(frame: FrameBytes, ip: number): Upper {
  let at = ip + Ipv6.layout.size;
  let room = frame.word(ip + 4);
  let protocol = frame.byte(ip + 6);
  let fragment: number | undefined;
  let isFragment = false;
  const found = (fields: Pick<Upper, 'protocol' | 'start' | 'room'>): Upper => ({ family: 'ipv6', isFragment, fragment, ...fields });
  for (let count = 0; isExtension(protocol); count++) {
    const length = extensionLength(frame, at, protocol);
    const isSecondFragment = protocol === extensionHeaders.fragment && fragment !== undefined;
    if (count === MAX_EXTENSION_HEADERS || isSecondFragment || length === undefined || length > room)
      return found({ protocol: NO_PROTOCOL, start: undefined, room: 0 });
    const next = frame.byte(at);
    if (protocol === extensionHeaders.fragment) {
      fragment = at;
      const offsetAndFlags = frame.word(at + 2);
      // 13 bits of offset, 2 reserved, more fragments: a packet that is whole in one fragment is none (RFC 6946).
      isFragment = (offsetAndFlags & 0xfff9) !== 0;
      if (offsetAndFlags >>> 3 !== 0) return found({ protocol: next, start: undefined, room: 0 });
    }
    at += length;
    room -= length;
    protocol = next;
  }
  return found({ protocol, start: at, room });
}

function isExtension(protocol: number): boolean {
  return Object.values<number>(extensionHeaders).includes(protocol);
}

/** Undefined where the packet does not hold all of it. */
function extensionLength(frame: FrameBytes, at: number, protocol: number): number | undefined {
  if (at + 8 > frame.length) return undefined;
  const length = protocol === extensionHeaders.fragment ? 8 : (frame.byte(at + 1) + 1) * 8;
  return at + length <= frame.length ? length : undefined;
}

function network(frame: FrameBytes, etherType: number, layout: Layout): number | undefined {
  const found = behindEthernet(frame);
  return found.etherType === etherType && found.offset + layout.size <= frame.length ? found.offset : undefined;
}

/** What the Ethernet header and up to two tags lead to. */
function behindEthernet(frame: FrameBytes): { readonly etherType: number | undefined; readonly offset: number; readonly tags: number[] } {
  const found = frame.offloadedVlan === undefined ? [] : [frame.offloadedVlan.tci];
  let offset: number = Ethernet.layout.size;
  while (found.length < MAX_TAGS && isTag(frame, offset)) {
    found.push(frame.word(offset));
    offset += Vlan.layout.size;
  }
  return { etherType: offset <= frame.length ? frame.word(offset - 2) : undefined, offset, tags: found };
}

/** Whether a tag starts at `offset`, announced by the two bytes in front of it. */
function isTag(frame: FrameBytes, offset: number): boolean {
  if (offset + Vlan.layout.size > frame.length) return false;
  const etherType = frame.word(offset - 2);
  return etherType === etherTypes.vlan || etherType === etherTypes.qinq;
}

function fits(frame: FrameBytes, layout: Layout, offset: number): FoundHeader | undefined {
  return offset + layout.size <= frame.length ? { layout, offset } : undefined;
}
