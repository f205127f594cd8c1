/** Takes the outer header of IP in IP off (RFC 2003, RFC 4213, RFC 2473) where the kernel has no device for it. */
import { be32, bool, hash, ipv6Address, perCpuArray, stage, struct, u64 } from '@tailrace/stage';

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
 * 4.2); its TTL or hop limit is left alone.
 *
 * Exits: `fragment`, fragments of outer IPv4 packets, which must be put together first; `malformed`, packets that are
 * shorter than they say, or whose inner packet is not what the outer header says or does not fit, and marks on inner
 * packets that cannot carry them.
 */
export const decapStage = stage({
  name: 'decap',
  hook: 'xdp',
  uses: { ...decapMaps(64), anySource: true },
  program(ctx, { tunnels, tunnels6, unpacked, anySource }) {
    const ip = ctx.ipv4();
    let header = 40;
    let room = 0;
    let protocol = 0;
    let marked = false;
    if (ip) {
      protocol = ip.protocol;
      if (protocol !== 4 && protocol !== 41) return ctx.next();
      if (!tunnels.lookup({ address: ip.daddr, source: anySource ? 0 : ip.saddr })) return ctx.next();
      if ((ip.flagsFragment & 0x3fff) !== 0) return ctx.exit('fragment');
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
      room = ip6.payloadLength + 40;
      // the lower two bits of the traffic class
      marked = ((ip6.versionClassFlow >>> 20) & 3) === 3;
    }
    const eth = ctx.ethernet();
    if (!eth || room + 14 > ctx.length) return ctx.exit('malformed');
    const count = unpacked.lookup(0);
    if (count) {
      count.packets += 1n;
      count.bytes += BigInt(ctx.length);
    }
    const to = eth.dst;
    const from = eth.src;
    if (!ctx.adjustHead(header)) return ctx.exit('malformed');
    const frame = ctx.ethernet();
    if (!frame) return ctx.exit('malformed');
    frame.dst = to;
    frame.src = from;
    if (protocol === 41) {
      frame.etherType = 0x86dd;
      const inner = ctx.ipv6();
      if (!inner || inner.payloadLength + 40 + header > room) return ctx.exit('malformed');
      if (marked) {
        const first = inner.versionClassFlow;
        if (((first >>> 20) & 3) === 0) return ctx.exit('malformed');
        inner.versionClassFlow = (first | 0x30_0000) >>> 0;
      }
      return ctx.next();
    }
    frame.etherType = 0x0800;
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
