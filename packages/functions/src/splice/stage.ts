/**
 * What comes in at one socket of a pair goes out of the other without a copy to the process. Each direction of a pair is a
 * *flow*: the program counts what it sends on and what it leaves to the process, the process says what it has passed on and up to
 * where the program may send. So bytes never overtake one another, and no more wait for a slow reader than the flow's limit.
 */
import { arrayMap, hash, ringBuffer, sockmap, stage, struct, u32, u64 } from '@tailrace/stage';
import { connectionKey, lowerHalf, upperHalf } from '../connection.ts';

/** Of a flow: nothing has come, `next` is known, bytes that came twice could not be taken off. */
export const FlowState = { fresh: 0, begun: 1, broken: 2 } as const;

/** The maps of one splicer, for so many flows: two of each pair. */
export function spliceMaps(flows: number) {
  return {
    /** By flow: where its data go. */
    peers: sockmap({ name: 'peers', maxEntries: flows }),
    /** By the socket that data come in at: the flow's place in the arrays. */
    flows: hash({ name: 'flows', key: connectionKey, value: u32, maxEntries: flows }),
    /** Bytes that the program has sent on, and has left to the process; TCP's number of the byte that comes next. */
    carried: arrayMap({ name: 'carried', value: struct({ sent: u64, left: u64, next: u32, state: u32 }), maxEntries: flows }),
    /** Bytes of `left` that the process has passed on, up to where `sent` may grow, and from where on the process is told. */
    allowed: arrayMap({ name: 'allowed', value: struct({ passedOn: u64, until: u64, mark: u64 }), maxEntries: flows }),
    /** Flows to look at: they have come to their mark, the first bytes are left to the process, or they are broken. */
    news: ringBuffer({ name: 'news', value: u32, bytes: newsBytes(flows) }),
  };
}

/**
 * Room for four records of each flow, with their headers. Flows tell of a mark and of first bytes once until the process has answered, so
 * that none is ever lost.
 */
function newsBytes(flows: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(flows * 4 * 16, 65_536)));
}

/** Sends data on while the process owes none and the reader keeps up; leaves them to the process otherwise. */
export const carryStage = stage({
  name: 'carry',
  hook: 'skSkb',
  uses: { ...spliceMaps(2), FlowState, upperHalf, lowerHalf },
  program(ctx, { peers, flows, carried, allowed, news, FlowState, upperHalf, lowerHalf }) {
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
    // what was sent again may be cut otherwise, and the kernel hands over all of a segment: the bytes that came before are taken off
    const again = counted.state === FlowState.begun ? (counted.next - ctx.sequence) >>> 0 : 0;
    const overlaps = again !== 0 && again < 0x8000_0000;
    if (overlaps && again >= ctx.length) return ctx.drop();
    counted.next = (ctx.sequence + ctx.length) >>> 0;
    if (counted.state === FlowState.fresh) counted.state = FlowState.begun;
    if (overlaps) {
      let left = true;
      for (let cut = 0; cut < 17; cut++) {
        if (again <= 4095 * cut) {
          left = false;
          break;
        }
        if (!ctx.trimHead(Math.min(again - 4095 * cut, 4095))) break;
      }
      if (left) {
        counted.state = FlowState.broken;
        news.output(index);
        return ctx.drop();
      }
    }
    if (counted.state === FlowState.broken) return ctx.drop();
    if (counted.left !== granted.passedOn || counted.sent >= granted.until) {
      counted.left += BigInt(ctx.length);
      // nobody reads a source of which nothing is left. This is asked behind the sum, at which the process looks behind what it has said.
      if (BigInt.asUintN(64, counted.left - BigInt(ctx.length)) === granted.passedOn) news.output(index);
      return ctx.next();
    }
    const before = counted.sent;
    counted.sent += BigInt(ctx.length);
    if (before < granted.mark && counted.sent >= granted.mark) news.output(index);
    return ctx.redirect(peers, index);
  },
});
