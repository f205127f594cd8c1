/** Takes the outer header of IP in IP off (RFC 2003) where the kernel has no device for it. */
import { be32, bool, hash, perCpuArray, stage, struct, u64 } from '@tailrace/stage';

/** A tunnel's ends: our address, and who may send to it; 0 for anybody. */
export const Tunnel = struct({ address: be32, source: be32 });
/** What was unpacked: packets, and their bytes as they came in. */
export const Unpacked = struct({ packets: u64, bytes: u64 });

/** The maps of one decapsulator. */
export function decapMaps(maxEntries: number) {
  return {
    tunnels: hash({ name: 'tunnels', key: Tunnel, value: bool, maxEntries }),
    unpacked: perCpuArray({ name: 'unpacked', value: Unpacked, maxEntries: 1 }),
  };
}

/**
 * Unpacks IPv4 in IPv4 that is addressed to one of ours and hands the inner packet on; everything else stays as it is. A
 * mark of congestion on the way is carried into the inner header (RFC 6040, section 4.2).
 *
 * Exits: `fragment`, fragments of outer packets, which must be put together first; `malformed`, packets that are shorter
 * than they say, or whose inner packet is no IPv4 or does not fit, and marks on inner packets that cannot carry them.
 */
export const decapStage = stage({
  name: 'decap',
  hook: 'xdp',
  uses: { ...decapMaps(64), anySource: true },
  program(ctx, { tunnels, unpacked, anySource }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    if (ip.protocol !== 4) return ctx.next();
    if (!tunnels.lookup({ address: ip.daddr, source: anySource ? 0 : ip.saddr })) return ctx.next();
    if ((ip.flagsFragment & 0x3fff) !== 0) return ctx.exit('fragment');
    const eth = ctx.ethernet();
    if (!eth || ip.totalLength + 14 > ctx.length) return ctx.exit('malformed');
    const count = unpacked.lookup(0);
    if (count) {
      count.packets += 1n;
      count.bytes += BigInt(ctx.length);
    }
    const header = ip.headerLength;
    const room = ip.totalLength;
    const marked = (ip.tos & 3) === 3;
    const to = eth.dst;
    const from = eth.src;
    if (!ctx.adjustHead(header)) return ctx.exit('malformed');
    const frame = ctx.ethernet();
    if (!frame) return ctx.exit('malformed');
    frame.dst = to;
    frame.src = from;
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
