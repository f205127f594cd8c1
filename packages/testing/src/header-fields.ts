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

/** IPv6 without extension headers. */
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
  /** Default 53. */
  readonly dport?: number;
  /** Bytes of header and payload; default: the true length. */
  readonly length?: number;
  /** Default: the valid checksum; 0 means none, over IPv4. */
  readonly checksum?: number;
}

/** ICMP and ICMPv6; the last two fields are those of an echo. */
export interface IcmpFields {
  /** Default: an echo request, 8 for ICMP and 128 for ICMPv6. */
  readonly type?: number;
  /** Default 0. */
  readonly code?: number;
  /** Default 1. */
  readonly id?: number;
  /** Default 1. */
  readonly sequence?: number;
  /** Default: the valid checksum. */
  readonly checksum?: number;
}
