/**
 * What comes in at one socket of a pair goes out of the other without a copy to the process. Each direction of a pair is a
 * *flow*: the program counts what it sends on and what it leaves to the process, the process says what it has passed on and up to
 * where the program may send. So bytes never overtake one another, and no more wait for a slow reader than the flow's limit.
 */
import { arrayMap, hash, ringBuffer, sockmap, stage, struct, u32, u64 } from '@tailrace/stage';
import { connectionKey, lowerHalf, upperHalf } from '../connection.ts';

/** The maps of one splicer, for so many flows: two of each pair. */
export function spliceMaps(flows: number) {
  return {
    /** By flow: where its data go. */
    peers: sockmap({ name: 'peers', maxEntries: flows }),
    /** By the socket that data come in at: the flow's place in the arrays. */
    flows: hash({ name: 'flows', key: connectionKey, value: u32, maxEntries: flows }),
    /** Bytes that the program has sent on, and has left to the process. */
    carried: arrayMap({ name: 'carried', value: struct({ sent: u64, left: u64 }), maxEntries: flows }),
    /** Bytes of `left` that the process has passed on, up to where `sent` may grow, and from where on the process is told. */
    allowed: arrayMap({ name: 'allowed', value: struct({ passedOn: u64, until: u64, mark: u64 }), maxEntries: flows }),
    /** Flows that have come to their mark. */
    spent: ringBuffer({ name: 'spent', value: u32, bytes: 65_536 }),
  };
}

/** Sends data on while the process owes none and the reader keeps up; leaves them to the process otherwise. */
export const carryStage = stage({
  name: 'carry',
  hook: 'skSkb',
  uses: { ...spliceMaps(2), upperHalf, lowerHalf },
  program(ctx, { peers, flows, carried, allowed, spent, upperHalf, lowerHalf }) {
    // a FIN comes as data of no length: sent on it would break the peer, and the process hears of it anyhow
    if (ctx.length === 0) return ctx.drop();
    const localHi = upperHalf(ctx.family, ctx.localAddr6.hi);
    const localLo = lowerHalf(ctx.family, ctx.localAddr, ctx.localAddr6.lo);
    const remoteHi = upperHalf(ctx.family, ctx.remoteAddr6.hi);
    const remoteLo = lowerHalf(ctx.family, ctx.remoteAddr, ctx.remoteAddr6.lo);
    const key = { localHi, localLo, remoteHi, remoteLo, localPort: ctx.localPort, remotePort: ctx.remotePort };
    const flow = flows.lookup(key);
    if (!flow) return ctx.next();
    const index = flow.value;
    const counted = carried.lookup(index);
    const granted = allowed.lookup(index);
    if (!counted || !granted) return ctx.next();
    if (counted.left !== granted.passedOn || counted.sent >= granted.until) {
      counted.left += BigInt(ctx.length);
      return ctx.next();
    }
    const before = counted.sent;
    counted.sent += BigInt(ctx.length);
    if (before < granted.mark && counted.sent >= granted.mark) spent.output(index);
    return ctx.redirect(peers, index);
  },
});
