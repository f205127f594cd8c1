/**
 * Packet headers as schemas: what `ctx.ipv4()` and its like point at. Fields read and write as host numbers. Any
 * package can declare another header with `struct` or `packed` and read it with `ctx.at(schema, offset)`.
 */
import {
  array,
  be16,
  be32,
  bits,
  type Encodable,
  flag,
  type Infer,
  ipv6Address,
  mac,
  packed,
  type Schema,
  struct,
  u8,
  u16,
  u32,
  type ViewedSchema,
} from './schema.ts';

const ethernet = struct({ dst: mac, src: mac, etherType: be16 });
/** An Ethernet header: 14 bytes (IEEE 802.3). */
export interface Ethernet extends Infer<typeof ethernet> {}
export const Ethernet: Schema<Ethernet> = ethernet;

const ipv4 = struct(
  {
    versionIhl: u8,
    tos: u8,
    totalLength: be16,
    id: be16,
    flagsFragment: be16,
    ttl: u8,
    protocol: u8,
    checksum: be16,
    saddr: be32,
    daddr: be32,
  },
  {
    version: bits('versionIhl', 4, 4),
    ihl: bits('versionIhl', 0, 4),
    headerLength: bits('versionIhl', 0, 4, { scale: 4 }),
    fragmentOffset: bits('flagsFragment', 0, 13, { scale: 8 }),
    moreFragments: flag('flagsFragment', 13),
    dontFragment: flag('flagsFragment', 14),
  },
);
/**
 * The fixed 20 bytes of an IPv4 header (RFC 791, section 3.1); options follow up to `headerLength`.
 * `totalLength`, `headerLength` and `fragmentOffset` are bytes.
 */
export interface Ipv4 extends Infer<typeof ipv4> {}
export const Ipv4: ViewedSchema<Ipv4, Encodable<typeof ipv4>> = ipv4;

const ipv6 = struct({
  versionClassFlow: be32,
  payloadLength: be16,
  nextHeader: u8,
  hopLimit: u8,
  saddr: ipv6Address,
  daddr: ipv6Address,
});
/** An IPv6 header: 40 bytes (RFC 8200, section 3). `payloadLength` counts the bytes behind it. */
export interface Ipv6 extends Infer<typeof ipv6> {}
export const Ipv6: Schema<Ipv6> = ipv6;

const tcp = struct(
  {
    sport: be16,
    dport: be16,
    seq: be32,
    ackSeq: be32,
    dataOffsetByte: u8,
    flags: u8,
    window: be16,
    checksum: be16,
    urgentPointer: be16,
  },
  {
    headerLength: bits('dataOffsetByte', 4, 4, { scale: 4 }),
    fin: flag('flags', 0),
    syn: flag('flags', 1),
    rst: flag('flags', 2),
    psh: flag('flags', 3),
    ack: flag('flags', 4),
    urg: flag('flags', 5),
    ece: flag('flags', 6),
    cwr: flag('flags', 7),
  },
);
/** The fixed 20 bytes of a TCP header (RFC 9293, section 3.1); options follow up to `headerLength` bytes. */
export interface Tcp extends Infer<typeof tcp> {}
export const Tcp: ViewedSchema<Tcp, Encodable<typeof tcp>> = tcp;

const udp = struct({ sport: be16, dport: be16, length: be16, checksum: be16 });
/** A UDP header: 8 bytes (RFC 768). `length` counts header and data. */
export interface Udp extends Infer<typeof udp> {}
export const Udp: Schema<Udp> = udp;

const icmp = struct({ type: u8, code: u8, checksum: be16, id: be16, sequence: be16 });
/** An ICMP header: 8 bytes (RFC 792); `id` and `sequence` belong to echo messages, others use those bytes otherwise. */
export interface Icmp extends Infer<typeof icmp> {}
export const Icmp: Schema<Icmp> = icmp;

// a schema of its own: its checksum covers a pseudo header, ICMP's does not
const icmpv6 = struct({ type: u8, code: u8, checksum: be16, id: be16, sequence: be16 });
/** An ICMPv6 header: 8 bytes (RFC 4443), laid out as ICMP's. */
export interface Icmpv6 extends Infer<typeof icmpv6> {}
export const Icmpv6: Schema<Icmpv6> = icmpv6;

const ports = struct({ sport: be16, dport: be16 });
/** The first 4 bytes of TCP and of UDP. */
export interface Ports extends Infer<typeof ports> {}
export const Ports: Schema<Ports> = ports;

const arp = packed({
  hardwareType: be16,
  protocolType: be16,
  hardwareLength: u8,
  protocolLength: u8,
  operation: be16,
  senderMac: mac,
  senderIp: be32,
  targetMac: mac,
  targetIp: be32,
});
/** An ARP message for IPv4 over Ethernet: 28 bytes (RFC 826). */
export interface Arp extends Infer<typeof arp> {}
export const Arp: Schema<Arp> = arp;

const vlan = struct(
  { tci: be16, etherType: be16 },
  { id: bits('tci', 0, 12), dropEligible: flag('tci', 12), priority: bits('tci', 13, 3) },
);
/** An 802.1Q tag as it lies in a frame, behind the EtherType that announces it: 4 bytes; `etherType` is what follows. */
export interface Vlan extends Infer<typeof vlan> {}
export const Vlan: ViewedSchema<Vlan, Encodable<typeof vlan>> = vlan;

const ipv6Fragment = struct(
  { nextHeader: u8, reserved: u8, offsetFlags: be16, id: be32 },
  { fragmentOffset: bits('offsetFlags', 3, 13, { scale: 8 }), moreFragments: flag('offsetFlags', 0) },
);
/** An IPv6 fragment header: 8 bytes (RFC 8200, section 4.5). `fragmentOffset` is in bytes. */
export interface Ipv6Fragment extends Infer<typeof ipv6Fragment> {}
export const Ipv6Fragment: ViewedSchema<Ipv6Fragment, Encodable<typeof ipv6Fragment>> = ipv6Fragment;

const gre = struct(
  { flagsVersion: be16, protocol: be16 },
  {
    hasChecksum: flag('flagsVersion', 15),
    hasKey: flag('flagsVersion', 13),
    hasSequence: flag('flagsVersion', 12),
    version: bits('flagsVersion', 0, 3),
  },
);
/** The fixed 4 bytes of a GRE header (RFC 2784, RFC 2890); `protocol` is an EtherType. */
export interface Gre extends Infer<typeof gre> {}
export const Gre: ViewedSchema<Gre, Encodable<typeof gre>> = gre;

const vxlan = struct({ flagsReserved: be32, vniReserved: be32 }, { hasVni: flag('flagsReserved', 27), vni: bits('vniReserved', 8, 24) });
/** A VXLAN header: 8 bytes (RFC 7348). */
export interface Vxlan extends Infer<typeof vxlan> {}
export const Vxlan: ViewedSchema<Vxlan, Encodable<typeof vxlan>> = vxlan;

const gue = struct(
  { versionLength: u8, protocol: u8, flags: be16 },
  { version: bits('versionLength', 6, 2), control: flag('versionLength', 5), optionsLength: bits('versionLength', 0, 5, { scale: 4 }) },
);
/**
 * A GUE header, variant 0: 4 bytes and `optionsLength` more (draft-ietf-intarea-gue). Variant 1 has no header: an IP packet
 * follows UDP directly, and these are its first 4 bytes (`version` is then 1).
 */
export interface Gue extends Infer<typeof gue> {}
export const Gue: ViewedSchema<Gue, Encodable<typeof gue>> = gue;

const tunnelKey = struct({ id: u32, remote: array(u32, 4), tos: u8, ttl: u8, extra: u16, label: u32, local: array(u32, 4) });
/**
 * The metadata of a tunnel (struct bpf_tunnel_key, include/uapi/linux/bpf.h): 44 bytes. IPv4 addresses are host numbers in
 * item 0, IPv6 ones four words in network order.
 */
export interface TunnelKey extends Infer<typeof tunnelKey> {}
export const TunnelKey: Schema<TunnelKey> = tunnelKey;

/** Values of `Ethernet.etherType` (IEEE 802 numbers). */
export const EtherType = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, qinq: 0x88a8 } as const;

/** Values of `Ipv4.protocol` and `Ipv6.nextHeader` (IANA protocol numbers). */
export const IpProtocol = {
  icmp: 1,
  igmp: 2,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  ipv6Fragment: 44,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  sctp: 132,
} as const;
