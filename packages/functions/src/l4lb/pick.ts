/** The second stage: which real has the flow, or shall have it? */
import { bool, fn, stage, u16, u32, u64 } from '@tailrace/stage';
import { mix } from '../structures/mix.ts';
import { RealState, tables } from './tables.ts';

const { conns, ring, reals } = tables;

/**
 * Hashes the client's address and port to a u32. The vip is left out: each has a ring of its own, and balancers that
 * number their vips differently should still agree.
 */
export const clientHash = fn([u64], u32, { mix }, (flow, { mix }) => Number(mix(flow >> 16n) >> 32n));

/**
 * Established flows stay with their real as long as it is up; new ones, those that nothing remembers and those of a
 * real that is down go where the vip's ring says, and are remembered. Writes `real`, its place in the table of reals.
 *
 * Exit: `noReal`, packets for a vip whose ring is empty.
 */
export const pick = stage({
  name: 'pick',
  hook: 'xdp',
  uses: { conns, ring, reals, clientHash, up: RealState.up },
  reads: { flow: u64, fresh: bool },
  writes: { real: u16 },
  program(ctx, { conns, ring, reals, clientHash, up }) {
    const flow = ctx.meta.flow;
    const cpu = ctx.cpu();
    if (!ctx.meta.fresh) {
      const known = conns.find(flow, cpu);
      const real = reals.lookup(known);
      if (real && real.state === up) {
        ctx.meta.real = known;
        return ctx.next();
      }
    }
    const chosen = ring.at(Number(flow & 0xffffn), clientHash(flow));
    if (chosen === 0) return ctx.exit('noReal');
    conns.insert(flow, chosen, cpu);
    ctx.meta.real = chosen;
    return ctx.next();
  },
});
