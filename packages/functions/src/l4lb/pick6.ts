/** The second stage over IPv6, as pick.ts: which real has the flow, or shall have it? */
import { bool, fn, stage, u16, u32, u64 } from '@tailrace/stage';
import { mix } from '../structures/mix.ts';
import { RealState, tables } from './tables.ts';

const { conns6, ring, reals } = tables;

/** Hashes the client's address and port to a u32, whatever the vip is: see `clientHash`. */
export const clientHash6 = fn([u64, u64, u64], u32, { mix }, (hi, lo, port, { mix }) => Number(mix(lo ^ mix(hi ^ mix(port))) >> 32n));

/**
 * As `pick`, for flows over IPv6: the flow is the client's address and what `flow` has, its port and the vip's index.
 *
 * Exit: `noReal`, packets for a vip whose ring is empty.
 */
export const pick6 = stage({
  name: 'pick6',
  hook: 'xdp',
  uses: { conns6, ring, reals, clientHash6, up: RealState.up },
  reads: { flow: u64, fresh: bool, clientHi: u64, clientLo: u64 },
  writes: { real: u16 },
  program(ctx, { conns6, ring, reals, clientHash6, up }) {
    const hi = ctx.meta.clientHi;
    const lo = ctx.meta.clientLo;
    const low = ctx.meta.flow & 0xffff_ffffn;
    if (!ctx.meta.fresh) {
      const known = conns6.find(hi, lo, low);
      const real = reals.lookup(known);
      if (real && real.state === up) {
        ctx.meta.real = known;
        return ctx.next();
      }
    }
    const chosen = ring.at(Number(low & 0xffffn), clientHash6(hi, lo, low >> 16n));
    if (chosen === 0) return ctx.exit('noReal');
    conns6.insert(hi, lo, low, chosen);
    ctx.meta.real = chosen;
    return ctx.next();
  },
});
