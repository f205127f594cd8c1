/** Flows as the control plane sees them: what the table holds, decoded, added up, and told as a record. */
import type { Infer } from '@tailrace/stage';
import { formatMapped } from '../address.ts';
import { Direction, type FlowCount, type FlowKey } from './stage.ts';

/** Key of the table. */
export type FlowKeyValue = Infer<typeof FlowKey>;
/** What one CPU counted. */
export type FlowCountValue = Infer<typeof FlowCount>;

/** `in` is towards the side that is watched, `out` away from it; see `MonitorOptions.side`. */
export type FlowDirection = keyof typeof Direction;

/** One flow in one direction: packets with the same addresses, ports, protocol, interface and VLAN. */
export interface FlowRecord {
  readonly direction: FlowDirection;
  /** Index of the interface that it was seen at. */
  readonly ifindex: number;
  /** The outer VLAN tag's id; 0 without one. */
  readonly vlan: number;
  /** The sender, e.g. `10.0.0.1` or `2001:db8::1`. */
  readonly source: string;
  readonly destination: string;
  /** The IP protocol: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6. */
  readonly protocol: number;
  /** Ports of TCP and UDP; 0 otherwise. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Of ICMP and ICMPv6. */
  readonly icmp?: { readonly type: number; readonly code: number };
  /** True for pieces of fragmented packets, which make flows of their own, without ports. */
  readonly fragments: boolean;
  /** As on the wire: a packet of several segments counts as that many. */
  readonly packets: bigint;
  /** Of the frames on the wire, from the Ethernet header on; see `flowStage`. */
  readonly bytes: bigint;
  /** All flags that were seen, as in the header's byte: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG, 64 ECE, 128 CWR. */
  readonly tcpFlags: number;
  /** When its first packet came, in ms since 1970, as fine as the kernel's timer tick (1 to 10 ms). */
  readonly first: number;
  /** When its last packet came. */
  readonly last: number;
}

/**
 * Why a record ended, as in flow export (flowEndReason, RFC 5102, section 5.11.3): `idle` and `active` timeouts, `end` after
 * FIN or RST, `forced` when the monitor stops, `evicted` for lack of room in the controller.
 */
export type FlowEnd = 'idle' | 'active' | 'end' | 'forced' | 'evicted';

/** A record that is done. */
export interface EndedFlow extends FlowRecord {
  readonly end: FlowEnd;
}

/** What was counted of a flow, over CPUs and epochs. Times are those of the boot clock. */
export interface FlowTotals {
  packets: bigint;
  bytes: bigint;
  tcpFlags: number;
  first: bigint;
  last: bigint;
}

/** A flow's identity, whatever the epoch. */
export function flowName({ saddr, daddr, sport, dport, ifindex, vlan, protocol, fragment, direction }: FlowKeyValue): string {
  const ends = `${saddr.hi},${saddr.lo},${daddr.hi},${daddr.lo},${sport},${dport}`;
  return `${ends},${protocol},${direction},${ifindex},${vlan},${fragment ? 1 : 0}`;
}

/** Adds what the CPUs counted. */
export function addCounts(to: FlowTotals, counts: readonly FlowCountValue[]): void {
  for (const { packets, bytes, tcpFlags, first, last } of counts) {
    if (packets === 0n) continue;
    to.packets += packets;
    to.bytes += bytes;
    to.tcpFlags |= tcpFlags;
    if (to.packets === packets || first < to.first) to.first = first;
    if (last > to.last) to.last = last;
  }
}

/** Nothing counted. */
export function noCounts(): FlowTotals {
  return { packets: 0n, bytes: 0n, tcpFlags: 0, first: 0n, last: 0n };
}

/** The record of a flow. `timeOf` turns the boot clock's time into ms since 1970. */
export function recordOf(key: FlowKeyValue, totals: FlowTotals, timeOf: (time: bigint) => number): FlowRecord {
  const { ifindex, vlan, protocol, fragment } = key;
  const isIcmp = !fragment && (protocol === 1 || protocol === 58);
  return {
    direction: key.direction === Direction.in ? 'in' : 'out',
    ifindex,
    vlan,
    source: formatMapped(key.saddr),
    destination: formatMapped(key.daddr),
    protocol,
    sourcePort: isIcmp ? 0 : key.sport,
    destinationPort: isIcmp ? 0 : key.dport,
    ...(isIcmp ? { icmp: { type: key.sport, code: key.dport } } : {}),
    fragments: fragment,
    packets: totals.packets,
    bytes: totals.bytes,
    tcpFlags: totals.tcpFlags,
    first: timeOf(totals.first),
    last: timeOf(totals.last),
  };
}

/** A count of packets and of their bytes. */
export interface PacketsAndBytes {
  readonly packets: bigint;
  readonly bytes: bigint;
}
