/**
 * What a test may say about each header. Every field is optional: what is left out becomes a value that makes the
 * packet valid, what is given is written as it stands, so that any field can be wrong on purpose.
 */
import type { Ipv4Address, Ipv6Address, MacAddress } from './address.ts';

/** Ethernet II. */
export interface EthernetFields {
  /** Default `02:00:00:00:00:02`. */
  readonly dst?: MacAddress;
  /** Default `02:00:00:00:00:01`. */
  readonly src?: MacAddress;
  /** Default: by what follows; 0x88b5 (local experiments) in front of a bare payload. */
  readonly etherType?: number;
}

/** An 802.1Q or 802.1ad tag. */
export interface VlanFields {
  /** Default 1. */
  readonly id?: number;
  /** Default 0. */
  readonly priority?: number;
  /** Default false. */
  readonly dropEligible?: boolean;
  /** What announces this tag in the header in front of it: 0x8100 (802.1Q, the default), 0x88a8 (802.1ad). */
  readonly tpid?: number;
  /** What follows; default: by what follows, as Ethernet's. */
  readonly etherType?: number;
}

/** ARP for IPv4 over Ethernet. */
export interface ArpFields {
  /** 1 request (the default), 2 reply. */
  readonly operation?: number;
  /** Default `02:00:00:00:00:01`. */
  readonly senderMac?: MacAddress;
  /** Default `192.0.2.1`. */
  readonly senderIp?: Ipv4Address;
  /** Default `00:00:00:00:00:00`. */
  readonly targetMac?: MacAddress;
  /** Default `192.0.2.2`. */
  readonly targetIp?: Ipv4Address;
  /** Default 1, Ethernet. */
  readonly hardwareType?: number;
  /** Default 0x0800, IPv4. */
  readonly protocolType?: number;
  /** Default 6. */
  readonly hardwareLength?: number;
  /** Default 4. */
  readonly protocolLength?: number;
}

/** IPv4. */
export interface Ipv4Fields {
  /** Default `192.0.2.1`. */
  readonly saddr?: Ipv4Address;
  /** Default `198.51.100.1`. */
  readonly daddr?: Ipv4Address;
  /** Default 64. */
  readonly ttl?: number;
  /** DSCP and ECN, default 0. */
  readonly tos?: number;
  /** Default 0. */
  readonly id?: number;
  /** Default false. */
  readonly reserved?: boolean;
  /** Default false. */
  readonly dontFragment?: boolean;
  /** Default false. */
  readonly moreFragments?: boolean;
  /** In bytes, a multiple of 8; default 0. */
  readonly fragmentOffset?: number;
  /** Raw options; padded with zeros (end of options) to a multiple of 4 bytes. */
  readonly options?: Uint8Array;
  /** Default 4. */
  readonly version?: number;
  /** Header length in units of 4 bytes; default: 5 and what the options take. */
  readonly ihl?: number;
  /** Bytes of header and payload; default: the true length. */
  readonly totalLength?: number;
  /** Default: by what follows; 253 (experiments) in front of a bare payload. */
  readonly protocol?: number;
  /** Default: the valid checksum. */
  readonly checksum?: number;
}

/** IPv6; extension headers are layers of their own. */
export interface Ipv6Fields {
  /** Default `2001:db8::1`. */
  readonly saddr?: Ipv6Address;
  /** Default `2001:db8::2`. */
  readonly daddr?: Ipv6Address;
  /** Default 64. */
  readonly hopLimit?: number;
  /** Default 0. */
  readonly trafficClass?: number;
  /** Default 0. */
  readonly flowLabel?: number;
  /** Default 6. */
  readonly version?: number;
  /** Bytes after the header; default: the true length. */
  readonly payloadLength?: number;
  /** Default: by what follows; 59 (no next header) where nothing follows, 253 (experiments) in front of a bare payload. */
  readonly nextHeader?: number;
}

/** What the IPv6 extension headers have in common that carry data. */
interface ExtensionFields {
  /** Default: by what follows; 59 (no next header) where nothing follows, 253 (experiments) in front of a bare payload. */
  readonly nextHeader?: number;
  /** As it stands in the header: units of 8 bytes behind the first 8; default: the true length. */
  readonly extensionLength?: number;
}

/** IPv6 hop-by-hop or destination options. */
export interface Ipv6OptionsFields extends ExtensionFields {
  /** Raw options, from the header's third byte on; padded with PadN to a multiple of 8 bytes. Default none. */
  readonly options?: Uint8Array;
}

/** An IPv6 routing header. Checksums behind it are made for the IPv6 header's own `daddr`, right where no segments are left. */
export interface Ipv6RoutingFields extends ExtensionFields {
  /** Default 4 (segment routing). */
  readonly type?: number;
  /** Default 0. */
  readonly segmentsLeft?: number;
  /** Raw data, from the header's fifth byte on; padded with zeros to a multiple of 8 bytes. Default none. */
  readonly data?: Uint8Array;
}

/** An IPv6 fragment header. */
export interface Ipv6FragmentFields {
  /** In bytes, a multiple of 8; default 0. */
  readonly fragmentOffset?: number;
  /** Default false. */
  readonly moreFragments?: boolean;
  /** Default 1. */
  readonly id?: number;
  /** Default: by what follows; 59 (no next header) where nothing follows, 253 (experiments) in front of a bare payload. */
  readonly nextHeader?: number;
  /** Default 0. */
  readonly reserved?: number;
}

/** TCP. Flags that are not given are clear; where none is given, `ack` is set. */
export interface TcpFields {
  /** Default 40000. */
  readonly sport?: number;
  /** Default 80. */
  readonly dport?: number;
  /** Default 1. */
  readonly seq?: number;
  /** Default 0. */
  readonly ackSeq?: number;
  readonly fin?: boolean;
  readonly syn?: boolean;
  readonly rst?: boolean;
  readonly psh?: boolean;
  readonly ack?: boolean;
  readonly urg?: boolean;
  readonly ece?: boolean;
  readonly cwr?: boolean;
  /** Default 65535. */
  readonly window?: number;
  /** Default 0. */
  readonly urgentPointer?: number;
  /** Raw options; padded with zeros (end of options) to a multiple of 4 bytes. */
  readonly options?: Uint8Array;
  /** Header length in units of 4 bytes; default: 5 and what the options take. */
  readonly dataOffset?: number;
  /** Default: the valid checksum. */
  readonly checksum?: number;
}

/** UDP. */
export interface UdpFields {
  /** Default 40000. */
  readonly sport?: number;
  /** Default: 4789 in front of VXLAN, 6080 in front of GUE, otherwise 53. */
  readonly dport?: number;
  /** Bytes of header and payload; default: the true length. */
  readonly length?: number;
  /** Default: the valid checksum; 0 means none, over IPv4. */
  readonly checksum?: number;
}

/** ICMP and ICMPv6. The last four bytes of the header are those of an echo, an MTU, or `rest`. */
export interface IcmpFields {
  /** Default: an echo request, 8 for ICMP and 128 for ICMPv6. */
  readonly type?: number;
  /** Default 0. */
  readonly code?: number;
  /** Of an echo; default 1, and 0 in messages of other types. */
  readonly id?: number;
  /** Of an echo; default 1, and 0 in messages of other types. */
  readonly sequence?: number;
  /** The next hop's MTU, of ICMP 3/4 (16 bits) and ICMPv6 2 (32 bits). */
  readonly mtu?: number;
  /** All four bytes, e.g. a pointer or a gateway. */
  readonly rest?: number;
  /** Default: the valid checksum. */
  readonly checksum?: number;
}

/** GRE. A key or a sequence number that is given lengthens the header. */
export interface GreFields {
  readonly key?: number;
  readonly sequence?: number;
  /** `true`: the valid checksum over header and payload; a number: that one. Default: none. */
  readonly checksum?: number | boolean;
  /** Default: by what follows, 0x6558 in front of Ethernet. */
  readonly protocol?: number;
  /** Default 0. */
  readonly version?: number;
  /** Default 0. */
  readonly reserved?: number;
}

/** VXLAN. */
export interface VxlanFields {
  /** 24 bits; default 1. */
  readonly vni?: number;
  /** Default true. */
  readonly hasVni?: boolean;
  /** The last byte; default 0. */
  readonly reserved?: number;
}

/** GUE, variant 0; variant 1 has no header: name the IP header behind `udp({ dport: 6080 })`. */
export interface GueFields {
  /** Default: by what follows; 253 (experiments) in front of a bare payload. */
  readonly protocol?: number;
  /** Default false. */
  readonly control?: boolean;
  /** Default 0. */
  readonly flags?: number;
  /** Optional fields as they are; padded with zeros to a multiple of 4 bytes. Default none. */
  readonly options?: Uint8Array;
  /** In bytes, a multiple of 4; default: the true length. */
  readonly optionsLength?: number;
  /** Default 0. */
  readonly version?: number;
}
