/**
 * Counts packets by flow. The table has a value for each CPU, so that nothing is lost between CPUs and nothing is locked,
 * and an epoch in every key: the controller takes what one epoch counted while programs write into the other one.
 */
import { arrayMap, bool, ipv6Address, perCpuArray, perCpuHash, stage, struct, u8, u16, u32, u64 } from '@tailrace/stage';

/** Directions as keys hold them. */
export const Direction = { in: 0, out: 1 } as const;

/**
 * Which flow: 48 bytes. IPv4 addresses are `::ffff:a.b.c.d`. ICMP has its type in `sport` and its code in `dport`; pieces
 * of packets, and protocols without ports, have 0 there.
 */
export const FlowKey = struct({
  saddr: ipv6Address,
  daddr: ipv6Address,
  sport: u16,
  dport: u16,
  ifindex: u32,
  /** The outer tag's VLAN id. */
  vlan: u16,
  protocol: u8,
  fragment: bool,
  direction: u8,
  epoch: u8,
});

/** What one CPU counted of a flow in one epoch; times are CLOCK_MONOTONIC, 0 where the CPU saw none of it. */
export const FlowCount = struct({ packets: u64, bytes: u64, first: u64, last: u64, tcpFlags: u8 });

/** Packets and their bytes on the wire. */
export const Tally = struct({ packets: u64, bytes: u64 });

/** The maps of one monitor: `lost` has what found the table full, `other` what is no IP. */
export function monitorMaps(maxFlows: number) {
  return {
    table: perCpuHash({ name: 'table', key: FlowKey, value: FlowCount, maxEntries: maxFlows }),
    epoch: arrayMap({ name: 'epoch', value: u32, maxEntries: 1 }),
    lost: perCpuArray({ name: 'lost', value: Tally, maxEntries: 1 }),
    other: perCpuArray({ name: 'other', value: Tally, maxEntries: 1 }),
  };
}

/**
 * Counts the packet and hands it on, whatever it is. One lookup for a packet of a known flow.
 *
 * Bytes are those of the frames on the wire, from the Ethernet header on, without what the card adds (padding to 60 bytes,
 * checksum, preamble): a packet of several segments is charged its headers once for each, and a VLAN tag that the driver
 * holds beside the frame is charged too. Of segments in a tunnel only the outer headers are known.
 */
export const flowStage = stage({
  name: 'flows',
  hook: 'tc',
  uses: { ...monitorMaps(65_536), direction: 0 },
  program(ctx, { table, epoch, lost, other, direction }) {
    const segments = ctx.segments;
    let bytes = ctx.length;
    let sourceHi = 0n;
    let sourceLo = 0n;
    let destinationHi = 0n;
    let destinationLo = 0n;
    let offset = 14;
    let protocol = 0;
    let fragment = false;
    let sport = 0;
    let dport = 0;
    let tcpFlags = 0;
    let headers = 0;
    const ip = ctx.ipv4();
    if (ip) {
      sourceLo = 0xffff_0000_0000n | BigInt(ip.saddr);
      destinationLo = 0xffff_0000_0000n | BigInt(ip.daddr);
      offset = ctx.offsetOf(ip);
      protocol = ip.protocol;
      fragment = (ip.flagsFragment & 0x3fff) !== 0;
      if (!fragment) {
        const tcp = ctx.tcp();
        if (tcp) {
          sport = tcp.sport;
          dport = tcp.dport;
          tcpFlags = tcp.flags;
          headers = ctx.offsetOf(tcp) + tcp.headerLength;
        } else {
          const udp = ctx.udp();
          if (udp) {
            sport = udp.sport;
            dport = udp.dport;
            headers = ctx.offsetOf(udp) + 8;
          } else {
            const icmp = ctx.icmp();
            if (icmp) {
              sport = icmp.type;
              dport = icmp.code;
            }
          }
        }
      }
    } else {
      const ip6 = ctx.ipv6();
      if (!ip6) {
        const tally = other.lookup(0);
        if (tally) {
          tally.packets += BigInt(segments);
          tally.bytes += BigInt(bytes);
        }
        return ctx.next();
      }
      sourceHi = ip6.saddr.hi;
      sourceLo = ip6.saddr.lo;
      destinationHi = ip6.daddr.hi;
      destinationLo = ip6.daddr.lo;
      offset = ctx.offsetOf(ip6);
      protocol = ctx.protocol;
      fragment = ctx.fragment;
      if (!fragment) {
        const tcp = ctx.tcp();
        if (tcp) {
          sport = tcp.sport;
          dport = tcp.dport;
          tcpFlags = tcp.flags;
          headers = ctx.offsetOf(tcp) + tcp.headerLength;
        } else {
          const udp = ctx.udp();
          if (udp) {
            sport = udp.sport;
            dport = udp.dport;
            headers = ctx.offsetOf(udp) + 8;
          } else {
            const icmp = ctx.icmpv6();
            if (icmp) {
              sport = icmp.type;
              dport = icmp.code;
            }
          }
        }
      }
    }
    // what the frame would have between Ethernet and IP, if no tag had been taken out
    const taken = Math.max(0, 14 + 4 * ctx.vlanTags - offset);
    bytes += (segments - 1) * headers + segments * taken;
    const current = epoch.lookup(0);
    const now = ctx.nowCoarse();
    const key = {
      saddr: { hi: sourceHi, lo: sourceLo },
      daddr: { hi: destinationHi, lo: destinationLo },
      sport,
      dport,
      ifindex: ctx.ifindex,
      vlan: ctx.vlanTci & 0xfff,
      protocol,
      fragment,
      direction,
      epoch: current ? current.value : 0,
    };
    const flow = table.lookup(key);
    if (flow) {
      flow.packets += BigInt(segments);
      flow.bytes += BigInt(bytes);
      if (flow.first === 0n) flow.first = now;
      flow.last = now;
      flow.tcpFlags = flow.tcpFlags | tcpFlags;
      return ctx.next();
    }
    // Where another CPU was faster the entry is there by now, and this writes the value of this CPU alone.
    if (table.update(key, { packets: BigInt(segments), bytes: BigInt(bytes), first: now, last: now, tcpFlags })) return ctx.next();
    const tally = lost.lookup(0);
    if (tally) {
      tally.packets += BigInt(segments);
      tally.bytes += BigInt(bytes);
    }
    return ctx.next();
  },
});
