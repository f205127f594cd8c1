/**
 * One pipeline at three hooks: XDP tells tenants apart by the UDP port and drops what is too small to be a frame of theirs,
 * TC ingress accounts for them by what XDP found out, TC egress counts what leaves.
 *
 *     npx pnpm@12 tailrace run examples/hooks/pipeline.ts --interface eth0
 */
import { lruHash, perCpuArray, pipeline, stage, struct, u16, u32, u64 } from 'tailrace';

const traffic = struct({ packets: u64, bytes: u64 });

/** Bytes and packets by tenant. */
export const tenants = lruHash({ name: 'tenants', key: u16, value: traffic, maxEntries: 1024 });
const sent = perCpuArray({ name: 'sent', value: traffic, maxEntries: 1 });

export const classify = stage({
  name: 'classify',
  hook: 'xdp',
  writes: { tenant: u16, length: u32 },
  uses: { smallest: 46 },
  program(ctx, { smallest }) {
    const udp = ctx.udp();
    ctx.meta.tenant = udp ? udp.dport : 0;
    ctx.meta.length = ctx.length;
    if (udp && ctx.length < smallest) return ctx.exit('runt');
    return ctx.next();
  },
});

export const account = stage({
  name: 'account',
  hook: 'tcIngress',
  reads: { tenant: u16, length: u32 },
  uses: { tenants },
  program(ctx, { tenants }) {
    if (ctx.meta.tenant === 0) return ctx.next();
    const known = tenants.lookup(ctx.meta.tenant);
    if (known) {
      known.packets += 1n;
      known.bytes += BigInt(ctx.meta.length);
    } else {
      tenants.update(ctx.meta.tenant, { packets: 1n, bytes: BigInt(ctx.meta.length) });
    }
    return ctx.next();
  },
});

export const count = stage({
  name: 'count',
  hook: 'tcEgress',
  uses: { sent },
  program(ctx, { sent }) {
    const sum = sent.lookup(0);
    if (!sum) return ctx.drop();
    sum.packets += BigInt(ctx.segments);
    sum.bytes += BigInt(ctx.length);
    return ctx.next();
  },
});

export default pipeline('hooks', { xdp: [classify.on({ runt: 'drop' })], tcIngress: [account], tcEgress: [count] });
