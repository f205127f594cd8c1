/** Takes the outer header of IP in IP off (RFC 2003, RFC 4213, RFC 2473) where the kernel has no device for it. */
import { be32, bool, hash, ipv6Address, perCpuArray, stage, struct, u64 } from '@tailrace/stage';
import { Announced, Tags } from '../vlan.ts';

/** A tunnel's ends: our address, and who may send to it; 0 for anybody. */
export const Tunnel = struct({ address: be32, source: be32 });
/** The same over IPv6; `::` for anybody. */
export const Tunnel6 = struct({ address: ipv6Address, source: ipv6Address });
/** What was unpacked: packets, and their bytes as they came in. */
export const Unpacked = struct({ packets: u64, bytes: u64 });

/** The maps of one decapsulator. */
export function decapMaps(maxEntries: number) {
  return {
    tunnels: hash({ name: 'tunnels', key: Tunnel, value: bool, maxEntries }),
    tunnels6: hash({ name: 'tunnels6', key: Tunnel6, value: bool, maxEntries }),
    unpacked: perCpuArray({ name: 'unpacked', value: Unpacked, maxEntries: 1 }),
  };
}

/**
 * Unpacks IPv4 and IPv6 packets in IPv4 and in IPv6 that are addressed to one of ours and hands the inner packet on;
 * everything else stays as it is. A mark of congestion on the way is carried into the inner header (RFC 6040, section
 * 4.2); its TTL or hop limit is left alone, and VLAN tags stay.
 *
 * Exits: `fragment`, fragments of outer IPv4 packets, which must be put together first; `malformed`, packets that are
 * shorter than they say, or whose inner packet is not what the outer header says or does not fit, and marks on inner
 * packets that cannot carry them.
 */
export const decapStage = stage({
  name: 'decap',
  hook: 'xdp',
  uses: { ...decapMaps(64), anySource: true, Tags, Announced },
  program(ctx, { tunnels, tunnels6, unpacked, anySource, Tags, Announced }) {
    const ip = ctx.ipv4();
    let start = 14;
    let header = 40;
    let room = 0;
    let protocol = 0;
    let marked = false;
    if (ip) {
      protocol = ip.protocol;
      if (protocol !== 4 && protocol !== 41) return ctx.next();
      if (!tunnels.lookup({ address: ip.daddr, source: anySource ? 0 : ip.saddr })) return ctx.next();
      if ((ip.flagsFragment & 0x3fff) !== 0) return ctx.exit('fragment');
      start = ctx.offsetOf(ip);
      header = ip.headerLength;
      room = ip.totalLength;
      marked = (ip.tos & 3) === 3;
    } else {
      const ip6 = ctx.ipv6();
      if (!ip6) return ctx.next();
      protocol = ip6.nextHeader;
      if (protocol !== 4 && protocol !== 41) return ctx.next();
      const from = ip6.saddr;
      const hi = anySource ? 0n : from.hi;
      const lo = anySource ? 0n : from.lo;
      const to = ip6.daddr;
      if (!tunnels6.lookup({ address: { hi: to.hi, lo: to.lo }, source: { hi, lo } })) return ctx.next();
      start = ctx.offsetOf(ip6);
      room = ip6.payloadLength + 40;
      // the lower two bits of the traffic class
      marked = ((ip6.versionClassFlow >>> 20) & 3) === 3;
    }
    const eth = ctx.ethernet();
    const tags = ctx.at(Tags, 12);
    if (!eth || !tags || start + room > ctx.length) return ctx.exit('malformed');
    const count = unpacked.lookup(0);
    if (count) {
      count.packets += 1n;
      count.bytes += BigInt(ctx.length);
    }
    const to = eth.dst;
    const from = eth.src;
    const first = tags.first;
    const second = tags.second;
    if (!ctx.adjustHead(header)) return ctx.exit('malformed');
    const frame = ctx.ethernet();
    const kept = ctx.at(Tags, 12);
    const announced = ctx.at(Announced, start - 2);
    if (!frame || !kept || !announced) return ctx.exit('malformed');
    frame.dst = to;
    frame.src = from;
    if (start > 14) kept.first = first;
    if (start > 18) kept.second = second;
    if (protocol === 41) {
      announced.etherType = 0x86dd;
      const inner = ctx.ipv6();
      if (!inner || inner.payloadLength + 40 + header > room) return ctx.exit('malformed');
      if (marked) {
        const first = inner.versionClassFlow;
        if (((first >>> 20) & 3) === 0) return ctx.exit('malformed');
        inner.versionClassFlow = (first | 0x30_0000) >>> 0;
      }
      return ctx.next();
    }
    announced.etherType = 0x0800;
    const inner = ctx.ipv4();
    if (!inner || inner.totalLength + header > room) return ctx.exit('malformed');
    if (marked) {
      const tos = inner.tos;
      if ((tos & 3) === 0) return ctx.exit('malformed');
      const word = inner.versionIhl * 256 + tos;
      inner.tos = tos | 3;
      inner.checksum = ctx.checksumReplace(inner.checksum, word, word | 3);
    }
    return ctx.next();
  },
});
