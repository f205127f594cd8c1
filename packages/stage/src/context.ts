/** What `ctx` is in a program, by hook. The compiler gives every member its meaning. */
import type { Arp, Ethernet, Gre, Gue, Icmp, Icmpv6, Ipv4, Ipv6, Ipv6Fragment, Ports, Tcp, TunnelKey, Udp, Vxlan } from './headers.ts';
import type { Hook, Verdict } from './hook.ts';
import type { RedirectTargets } from './redirect-map.ts';
import type { Literal } from './resource.ts';
import type { Schema } from './schema.ts';
import type { Sockets } from './socket-map.ts';

/** What every hook offers. `M` is the metadata that the stage declared. */
export interface Context<H extends Hook, M> {
  /** Metadata that travels with the packet along the chain. */
  readonly meta: M;
  /** To the next stage of the chain; behind the last one the hook's pass. */
  next(): Verdict<H>;
  /** Out through a named exit; the pipeline decides where that leads. */
  exit<const X extends string>(label: Literal<X>): Verdict<H, X>;
  /** On to the network stack. */
  pass(): Verdict<H>;
}

/** Hooks that may end a packet. */
export interface Droppable<H extends Hook> {
  /** Ends the packet. A reason, a literal, is counted for itself; the kernel knows nothing of it. */
  drop<const R extends string>(reason?: Literal<R>): Verdict<H>;
}

/** Hooks that see bytes: a packet, or data of a socket. */
export interface Bytes {
  /** Bytes of the whole packet, fragments included; of a socket, those that have come in or are sent at once. */
  readonly length: number;
  /** What `schema` describes, `offset` bytes behind the first; `undefined` where it does not fit. The schema comes through `uses`. */
  at<T>(schema: Schema<T>, offset: number): T | undefined;
}

/**
 * Hooks that see a frame from its first byte. A header is `undefined` where the packet does not have it; otherwise it
 * is read and written in place. Headers that were got before the packet is moved must not be used after.
 *
 * Network headers are found behind up to two VLAN tags (802.1Q, 802.1ad), whether a tag lies in the frame or the driver
 * took it out; headers of layer 4 also behind up to 6 IPv6 extension headers (hop-by-hop, routing, destination, fragment).
 */
export interface Frame extends Bytes {
  /** The frame's first 14 bytes; `etherType` is what stands there, e.g. that of a VLAN tag. */
  ethernet(): Ethernet | undefined;
  arp(): Arp | undefined;
  /** The IPv4 header, options within the packet. */
  ipv4(): Ipv4 | undefined;
  ipv6(): Ipv6 | undefined;
  /** The fragment header behind an IPv6 header (RFC 8200, section 4.5). */
  ipv6Fragment(): Ipv6Fragment | undefined;
  /** `undefined` on fragments but the first, and where the lengths cannot hold it. */
  tcp(): Tcp | undefined;
  /** As `tcp()`. */
  udp(): Udp | undefined;
  /** As `tcp()`, over IPv4. */
  icmp(): Icmp | undefined;
  /** As `tcp()`, over IPv6. */
  icmpv6(): Icmpv6 | undefined;
  /** The ports of TCP or UDP, whichever it is; as `tcp()`. */
  ports(): Ports | undefined;
  /** The first 4 bytes of a GRE header (RFC 2784); as `tcp()`. */
  gre(): Gre | undefined;
  /** The VXLAN header behind UDP to `port`, a constant, 4789 unless said otherwise (RFC 7348); as `tcp()`. */
  vxlan(port?: number): Vxlan | undefined;
  /** The GUE header behind UDP to `port`, a constant, 6080 unless said otherwise (draft-ietf-intarea-gue); as `tcp()`. */
  gue(port?: number): Gue | undefined;
  /** The IP protocol behind IPv6 extension headers; 255, which is reserved, without an IP header or behind too many of those. */
  readonly protocol: number;
  /** True for every piece of a fragmented IP packet, the first one too. */
  readonly fragment: boolean;
  /** VLAN tags of the frame, 0..2. */
  readonly vlanTags: number;
  /** The outer tag: 3 bits priority, 1 bit drop eligible, 12 bits id; 0 without one. */
  readonly vlanTci: number;
  /** The second tag; 0 without one. */
  readonly innerVlanTci: number;
  /** Puts an 802.1Q tag in front of those there are. The packet moves. False where it cannot. */
  pushVlan(tci: number): boolean;
  /** Takes the outer tag off. The packet moves. False where there is none. */
  popVlan(): boolean;
  /** Where a header starts, in bytes from the packet's first. */
  offsetOf(header: object): number;
  /**
   * The internet checksum over a header's bytes, ready to be stored in its be16 field (RFC 1071); the field itself must
   * hold 0 meanwhile. `length` is in bytes, a multiple of 4; default the schema's size. For IPv4 pass `ip.headerLength`.
   */
  checksum(header: object, length?: number): number;
  /** `check`, after a 16-bit or 32-bit big-endian word under it changed from `from` to `to` (RFC 1624, equation 3). */
  checksumReplace(check: number, from: number, to: number): number;
  /**
   * Brings the checksum of a TCP, UDP, ICMP or ICMPv6 header in step after a word under it changed from `from` to `to`: of
   * the segment itself (a port), or of its pseudo header (an address; ICMP has none). A UDP checksum of 0 stays 0. Right
   * with checksum offload too, where the field holds only a part of the sum.
   */
  updateChecksum<T extends number | { readonly hi: bigint; readonly lo: bigint }>(
    header: Tcp | Udp | Icmp | Icmpv6,
    from: T,
    to: T,
    of?: 'segment' | 'pseudoHeader',
  ): void;
}

/** What the machine knows. */
export interface Machine {
  /** Nanoseconds since boot (CLOCK_MONOTONIC). */
  now(): bigint;
  /** As `now()`, cheaper and only as fine as the timer tick. */
  nowCoarse(): bigint;
  /** A random u32. */
  random(): number;
  /** The CPU that runs the program. */
  cpu(): number;
}

/** `ctx` at XDP. */
export interface XdpContext<M> extends Context<'xdp', M>, Droppable<'xdp'>, Frame, Machine {
  /** Index of the interface that the packet came in on. */
  readonly ingressIfindex: number;
  /** Index of the queue that it came in on. */
  readonly rxQueue: number;
  /** Back out of the interface that it came in on. */
  tx(): Verdict<'xdp'>;
  /** Drops and raises the xdp_exception tracepoint. A reason is as `drop` has it. */
  abort<const R extends string>(reason?: Literal<R>): Verdict<'xdp'>;
  /** Out of another interface. */
  redirect(ifindex: number): Verdict<'xdp'>;
  /** To what the map has under `key`: an interface, a CPU, an AF_XDP socket; aborted where it has nothing there. */
  redirect(map: RedirectTargets, key: number): Verdict<'xdp'>;
  /** Moves the packet's first byte: forward by `delta` bytes, or backward (negative) to make room. False where it cannot. */
  adjustHead(delta: number): boolean;
  /** Moves the packet's end by `delta` bytes. False where it cannot. */
  adjustTail(delta: number): boolean;
}

/** Where bytes are put in or taken out at TC: behind the Ethernet header, or behind the IP header. */
export type RoomAt = 'ethernet' | 'network';
/** What the new room is for, so that offloads know the packet: an outer header of this kind, with the inner one behind it. */
export type Encapsulation = 'ipv4' | 'ipv6' | 'gre' | 'udp';

/** `ctx` at TC. A packet may be many segments that are cut later (TSO) or were put together before (GRO). */
export interface TcContext<H extends 'tc' | 'tcIngress' | 'tcEgress', M> extends Context<H, M>, Droppable<H>, Frame, Machine {
  /** Packets on the wire that this one stands for, at least 1; the chain's counters count these. */
  readonly segments: number;
  /** The firewall mark. */
  mark: number;
  /** The queueing priority: a class id, or a socket's SO_PRIORITY. */
  priority: number;
  /** The transmit queue, from 0. */
  queue: number;
  /** The flow hash; computed where the driver gave none. */
  readonly hash: number;
  /** Index of the interface that the program runs at. */
  readonly ifindex: number;
  /** Index of the interface that the packet came in on; 0 where it was made here. */
  readonly ingressIfindex: number;
  /** The metadata of the tunnel that the packet came out of, copied; `undefined` where it came from none. */
  tunnelKey(family?: 'ipv4' | 'ipv6'): TunnelKey | undefined;
  /** Sends the packet through a collect_md tunnel interface with these metadata; addresses are IPv4 unless said otherwise. False where it cannot. */
  setTunnelKey(key: TunnelKey, family?: 'ipv4' | 'ipv6'): boolean;
  /** Out of another interface. */
  redirect(ifindex: number): Verdict<H>;
  /** In at another interface, as if it had come in there. */
  redirectIngress(ifindex: number): Verdict<H>;
  /** Out of another interface, with the Ethernet addresses that the neighbour table has for its destination. */
  redirectNeigh(ifindex: number): Verdict<H>;
  /** Sends a copy out of another interface. False where it cannot. */
  clone(ifindex: number): boolean;
  /** As at XDP; use `adjustRoom` to put an outer header in front, which offloads then know of. False where it cannot. */
  adjustHead(delta: number): boolean;
  /** Moves the packet's end by `delta` bytes. False where it cannot. */
  adjustTail(delta: number): boolean;
  /** Makes room for `delta` bytes, or takes them out (negative). The packet moves. False where it cannot. */
  adjustRoom(delta: number, at: RoomAt, encapsulation?: Encapsulation): boolean;
}
/** `ctx` at TC ingress. */
export interface TcIngressContext<M> extends TcContext<'tcIngress', M> {
  /** In at the peer of an interface (veth), in the peer's namespace, without a queue between. */
  redirectPeer(ifindex: number): Verdict<'tcIngress'>;
}

/** Hooks of sockets: which connection it is. Addresses are numbers as in headers, those of the other family 0. */
export interface Connection {
  /** AF_INET or AF_INET6: 2 or 10. */
  readonly family: number;
  readonly localAddr: number;
  readonly remoteAddr: number;
  readonly localAddr6: { readonly hi: bigint; readonly lo: bigint };
  readonly remoteAddr6: { readonly hi: bigint; readonly lo: bigint };
  readonly localPort: number;
  readonly remotePort: number;
}

/** Hooks of a socket's data, which are read and written in place. */
export interface SocketContext<H extends 'skSkb' | 'skMsg', M> extends Context<H, M>, Droppable<H>, Bytes, Connection, Machine {
  /** Out of the socket that the map has under `key`, to its peer; where it has none they are dropped, unless `otherwise` lets them pass. */
  redirect<K>(sockets: Sockets<K>, key: NoInfer<K>, otherwise?: 'drop' | 'pass'): Verdict<H>;
  /** In at the socket that the map has under `key`: who holds it reads the data. Without one as `redirect`. */
  redirectIngress<K>(sockets: Sockets<K>, key: NoInfer<K>, otherwise?: 'drop' | 'pass'): Verdict<H>;
}

/** `ctx` of data that have come in at a socket of a map. What passes goes to who reads the socket. */
export interface SkSkbContext<M> extends SocketContext<'skSkb', M> {
  /**
   * Copies `length` bytes of the data, 1 or more, from `offset` on, into an array of bytes in a map's value, from its item `to` on:
   * what comes in pieces is put together there. False where the data have not so many, and then the array has zeros. So that `to`
   * and `length` always fit, the array has to have room for the largest `to` and the power of two that the largest `length` is within.
   */
  copy(offset: number, length: number, into: { readonly length: number; [index: number]: number }, to?: number): boolean;
  /**
   * TCP's number of the first byte, 32 bits that wrap. A segment that was cut otherwise when it was sent again begins with bytes that came
   * before, and the kernel (Linux 6.18) hands it over whole. In userspace bytes count from 0, and none comes twice.
   */
  readonly sequence: number;
  /** Takes up to 4,095 bytes off the front of the data. False where they have not so many. */
  trimHead(bytes: number): boolean;
}

/** `ctx` of data that are being sent at a socket of a map. What passes goes to the socket's peer; dropping is EACCES to the sender. */
export interface SkMsgContext<M> extends SocketContext<'skMsg', M> {
  /** The verdict holds for the next `bytes` that are sent. */
  applyBytes(bytes: number): void;
  /** No verdict before so many bytes have come together. */
  corkBytes(bytes: number): void;
  /** The socket's network namespace, as SO_NETNS_COOKIE has it: connections of different ones can have the same ends. */
  readonly netnsCookie: bigint;
}

/** `ctx` of the events of TCP sockets in a cgroup. */
export interface SockOpsContext<M> extends Context<'sockOps', M>, Connection, Machine {
  /** The event: BPF_SOCK_OPS_* of include/uapi/linux/bpf.h. */
  readonly op: number;
  /** A connection that was made from here stands. */
  readonly activeEstablished: boolean;
  /** A connection that was made to here stands. */
  readonly passiveEstablished: boolean;
  /** The socket's network namespace, as SO_NETNS_COOKIE has it: connections of different ones can have the same ends. */
  readonly netnsCookie: bigint;
}

/** A table and not a conditional type, so that a hover on `ctx` says `XdpContext<…>`. */
export interface Contexts<M> {
  xdp: XdpContext<M>;
  tc: TcContext<'tc', M>;
  tcIngress: TcIngressContext<M>;
  tcEgress: TcContext<'tcEgress', M>;
  skSkb: SkSkbContext<M>;
  skMsg: SkMsgContext<M>;
  sockOps: SockOpsContext<M>;
}
