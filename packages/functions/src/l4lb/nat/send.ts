/** XDP, behind the stages of full NAT that are rarely taken: sends what they have translated to its real. */
import { stage, u16 } from '@tailrace/stage';
import { tables } from '../tables.ts';

const { reals } = tables;

/**
 * A frame that goes back out of its interface keeps its VLAN tags, since the real is on that VLAN then; one that leaves
 * through another interface loses them.
 */
export const send = stage({
  name: 'send',
  hook: 'xdp',
  uses: { reals },
  reads: { real: u16 },
  program(ctx, { reals }) {
    const real = reals.lookup(ctx.meta.real);
    if (!real) return ctx.drop('noReal');
    const ifindex = real.ifindex;
    if (ifindex !== 0) for (let tag = 0; tag < 2; tag++) if (ctx.vlanTags > 0 && !ctx.popVlan()) return ctx.drop('noRoom');
    const frame = ctx.ethernet();
    if (!frame) return ctx.drop('malformed');
    frame.src = ifindex === 0 ? frame.dst : real.own;
    frame.dst = real.hop;
    if (ifindex === 0) return ctx.tx();
    return ctx.redirect(ifindex);
  },
});
