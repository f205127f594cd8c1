/**
 * What `ctx` is in a program, by hook. XDP has its whole context; of the other hooks' only what chains need is there
 * as long as no engine attaches them. The compiler gives every member its meaning.
 */
import type { Ethernet, Icmp, Icmpv6, Ipv4, Ipv6, Ports, Tcp, Udp } from './headers.ts';
import type { Hook, Verdict } from './hook.ts';
import type { Devices } from './map.ts';
import type { Literal } from './resource.ts';
import type { Schema } from './schema.ts';

/** What every hook offers. `M` is the metadata that the stage declared. */
export interface Context<H extends Hook, M> {
  /** Bytes of the whole packet, fragments included. */
  readonly length: number;
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
  drop(): Verdict<H>;
}

/**
 * Hooks that see a frame from its first byte. A header is `undefined` where the packet does not have it; otherwise it
 * is read and written in place. Headers that were got before the packet is moved must not be used after.
 */
export interface Frame {
  ethernet(): Ethernet | undefined;
  /** The IPv4 header, options within the packet. */
  ipv4(): Ipv4 | undefined;
  ipv6(): Ipv6 | undefined;
  /** `undefined` on fragments but the first, behind IPv6 extension headers, and where the lengths cannot hold it. */
  tcp(): Tcp | undefined;
  /** As `tcp()`. */
  udp(): Udp | undefined;
  /** As `tcp()`, over IPv4. */
  icmp(): Icmp | undefined;
  /** As `tcp()`, over IPv6. */
  icmpv6(): Icmpv6 | undefined;
  /** The ports of TCP or UDP, whichever it is; as `tcp()`. */
  ports(): Ports | undefined;
  /** What `schema` describes, `offset` bytes behind the packet's first; `undefined` where it does not fit. The schema comes through `uses`. */
  at<T>(schema: Schema<T>, offset: number): T | undefined;
  /** Where a header starts, in bytes from the packet's first. */
  offsetOf(header: object): number;
  /**
   * The internet checksum over a header's bytes, ready to be stored in its be16 field (RFC 1071); the field itself must
   * hold 0 meanwhile. `length` is in bytes, a multiple of 4; default the schema's size. For IPv4 pass `ip.headerLength`.
   */
  checksum(header: object, length?: number): number;
  /** `check`, after a 16-bit or 32-bit big-endian word under it changed from `from` to `to` (RFC 1624, equation 3). */
  checksumReplace(check: number, from: number, to: number): number;
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
  /** Drops and raises the xdp_exception tracepoint. */
  abort(): Verdict<'xdp'>;
  /** Out of another interface. */
  redirect(ifindex: number): Verdict<'xdp'>;
  /** Out of the interface that the devmap has under `key`; aborted where it has none. */
  redirect(devmap: Devices, key: number): Verdict<'xdp'>;
  /** Moves the packet's first byte: forward by `delta` bytes, or backward (negative) to make room. False where it cannot. */
  adjustHead(delta: number): boolean;
  /** Moves the packet's end by `delta` bytes. False where it cannot. */
  adjustTail(delta: number): boolean;
}

/** `ctx` at TC. */
export interface TcContext<H extends 'tc' | 'tcIngress' | 'tcEgress', M> extends Context<H, M>, Droppable<H>, Frame, Machine {
  mark: number;
  redirect(ifindex: number): Verdict<H>;
  redirectNeigh(ifindex: number): Verdict<H>;
}
/** `ctx` at TC ingress. */
export interface TcIngressContext<M> extends TcContext<'tcIngress', M> {
  redirectPeer(ifindex: number): Verdict<'tcIngress'>;
}

/** `ctx` of a socket's data. */
export interface SocketContext<H extends 'skSkb' | 'skMsg', M> extends Context<H, M>, Droppable<H> {}
/** `ctx` of a socket's events. */
export interface SockOpsContext<M> extends Context<'sockOps', M> {}

/** A table and not a conditional type, so that a hover on `ctx` says `XdpContext<…>`. */
export interface Contexts<M> {
  xdp: XdpContext<M>;
  tc: TcContext<'tc', M>;
  tcIngress: TcIngressContext<M>;
  tcEgress: TcContext<'tcEgress', M>;
  skSkb: SocketContext<'skSkb', M>;
  skMsg: SocketContext<'skMsg', M>;
  sockOps: SockOpsContext<M>;
}
