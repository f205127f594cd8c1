/**
 * The next version of pipeline.ts, to be tried on some flows first: XDP drops datagrams to ports that no tenant has.
 *
 *     npx pnpm@12 tailrace run examples/hooks/pipeline.ts --interface eth0 --canary examples/hooks/stricter.ts --share 10
 */
import { pipeline, stage, u16, u32 } from 'tailrace';
import { account, count } from './pipeline.ts';

export const classify = stage({
  name: 'classify',
  hook: 'xdp',
  writes: { tenant: u16, length: u32 },
  uses: { smallest: 46, reserved: 1024 },
  program(ctx, { smallest, reserved }) {
    const udp = ctx.udp();
    ctx.meta.tenant = udp ? udp.dport : 0;
    ctx.meta.length = ctx.length;
    if (udp && ctx.length < smallest) return ctx.exit('runt');
    if (udp && udp.dport < reserved) return ctx.drop('reserved');
    return ctx.next();
  },
});

export default pipeline('hooks', { xdp: [classify.on({ runt: 'drop' })], tcIngress: [account], tcEgress: [count] });
