/** The filter itself: drops packets by source prefix and counts what it drops. */
import { fn, ipv4Prefix, ipv6Prefix, lpmTrie, nothing, perCpuArray, stage, struct, u32, u64 } from '@tailrace/stage';

/** What was dropped: packets, and their bytes with all headers. */
export const Hits = struct({ packets: u64, bytes: u64 });

/** The maps of one filter: a prefix's value is its place in `hits`, so that packets of one prefix share no counter across CPUs. */
export function aclMaps(maxEntries: number) {
  const blocked4 = lpmTrie({ name: 'blocked4', key: ipv4Prefix, value: u32, maxEntries });
  const blocked6 = lpmTrie({ name: 'blocked6', key: ipv6Prefix, value: u32, maxEntries });
  const hits = perCpuArray({ name: 'hits', value: Hits, maxEntries });
  const count = fn([u32, u32], nothing, { hits }, (index, length, { hits }) => {
    const hit = hits.lookup(index);
    if (!hit) return;
    hit.packets += 1n;
    hit.bytes += BigInt(length);
  });
  return { blocked4, blocked6, hits, count };
}

const { blocked4, blocked6, count } = aclMaps(10_000);

/**
 * Drops what comes from a blocked IPv4 or IPv6 source and hands on the rest, also what is no IP. It guards, so a tail
 * call from it that finds nothing drops.
 */
export const aclStage = stage({
  name: 'acl',
  hook: 'xdp',
  uses: { blocked4, blocked6, count },
  onMiss: 'drop',
  program(ctx, { blocked4, blocked6, count }) {
    const ip = ctx.ipv4();
    if (ip) {
      const found = blocked4.lookup({ prefixLen: 32, addr: ip.saddr });
      if (!found) return ctx.next();
      count(found.value, ctx.length);
      return ctx.drop('blocked');
    }
    const ip6 = ctx.ipv6();
    if (!ip6) return ctx.next();
    const found = blocked6.lookup({ prefixLen: 128, addr: ip6.saddr });
    if (!found) return ctx.next();
    count(found.value, ctx.length);
    return ctx.drop('blocked');
  },
});
