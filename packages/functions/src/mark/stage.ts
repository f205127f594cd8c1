/**
 * Marks by source prefix. The prefix is found at XDP, once for each packet as it comes in and before anything is copied;
 * the firewall mark belongs to the kernel's copy, which there is none of at XDP. So the mark travels as metadata, and TC
 * ingress puts it on.
 */
import { ipv4Prefix, ipv6Prefix, lpmTrie, stage, u32 } from '@tailrace/stage';

/** The maps of one marker: prefix to mark. */
export function markMaps(maxEntries: number) {
  return {
    marks4: lpmTrie({ name: 'marks4', key: ipv4Prefix, value: u32, maxEntries }),
    marks6: lpmTrie({ name: 'marks6', key: ipv6Prefix, value: u32, maxEntries }),
  };
}

/** XDP: looks the source up. Writes `mark`, 0 where no prefix holds it. */
export const findStage = stage({
  name: 'find',
  hook: 'xdp',
  uses: markMaps(1),
  writes: { mark: u32 },
  program(ctx, { marks4, marks6 }) {
    ctx.meta.mark = 0;
    const ip = ctx.ipv4();
    if (ip) {
      const found = marks4.lookup({ prefixLen: 32, addr: ip.saddr });
      if (found) ctx.meta.mark = found.value;
      return ctx.next();
    }
    const ip6 = ctx.ipv6();
    if (ip6) {
      const found = marks6.lookup({ prefixLen: 128, addr: ip6.saddr });
      if (found) ctx.meta.mark = found.value;
    }
    return ctx.next();
  },
});

/** TC ingress: puts the mark on; packets without one keep what they have. */
export const putStage = stage({
  name: 'put',
  hook: 'tcIngress',
  reads: { mark: u32 },
  program(ctx) {
    if (ctx.meta.mark !== 0) ctx.mark = ctx.meta.mark;
    return ctx.next();
  },
});
