/**
 * The first bytes of connections that wait for their route, put together piece by piece (`collect`), and the rule for the name in them
 * looked up (`match`). The stage between them finds the name: `find.ts` has those of TLS and HTTP. What comes in is left to the
 * process, which looks for the outcome when it is told of data.
 */
import { array, arrayMap, hash, lpmTrie, stage, struct, u8, u32, u64 } from '@tailrace/stage';
import { connectionKey, lowerHalf, upperHalf } from '../connection.ts';

/** First bytes that are kept, and one more; a power of two. */
export const HEAD_BYTES = 4096;
/** What they lie in: the first half of it. The second has room for pieces that are longer than what is kept of them. */
export const HeadBytes = array(u8, 2 * HEAD_BYTES);

/** How far a connection is: without a name yet, its name found, and what came out. */
export const State = { more: 0, named: 1, ruled: 2, unknown: 3, nameless: 4 } as const;

/** A connection that waits. */
export const Waiting = struct({
  /** What a finder remembers from one lap to the next. */
  last: u64,
  at: u32,
  /** Its index among the heads, and how many bytes that has. */
  head: u32,
  have: u32,
  state: u32,
  /** Where in the head the name is, 1..253 bytes. */
  start: u32,
  length: u32,
  /** The number of the route, where there is a rule. */
  route: u32,
});

/**
 * A name backwards, so that all below a domain have a prefix in common: its bytes from the last to the first with bit 5 set, which
 * takes letters to lower case, and behind those of a whole name a 0.
 */
export const nameKey = struct({ prefixLen: u32, bytes: array(u8, 256) });

/** The maps of one router: for so many connections that wait at a time, and so many rules. */
export function routeMaps(maxWaiting: number, maxRules: number) {
  return {
    waiting: hash({ name: 'waiting', key: connectionKey, value: Waiting, maxEntries: maxWaiting }),
    heads: arrayMap({ name: 'heads', value: struct({ bytes: HeadBytes, name: nameKey }), maxEntries: maxWaiting }),
    /** Numbers of routes by name. */
    names: lpmTrie({ name: 'names', key: nameKey, value: u32, maxEntries: maxRules }),
  };
}

/** Puts the data of connections that wait behind what came before. */
export const collectStage = stage({
  name: 'collect',
  hook: 'skSkb',
  uses: { ...routeMaps(1, 1), State, HEAD_BYTES, upperHalf, lowerHalf },
  program(ctx, { waiting, heads, State, HEAD_BYTES, upperHalf, lowerHalf }) {
    const localHi = upperHalf(ctx.family, ctx.localAddr6.hi);
    const localLo = lowerHalf(ctx.family, ctx.localAddr, ctx.localAddr6.lo);
    const remoteHi = upperHalf(ctx.family, ctx.remoteAddr6.hi);
    const remoteLo = lowerHalf(ctx.family, ctx.remoteAddr, ctx.remoteAddr6.lo);
    const connection = waiting.lookup({ localHi, localLo, remoteHi, remoteLo, localPort: ctx.localPort, remotePort: ctx.remotePort });
    if (!connection || connection.state !== State.more) return ctx.next();
    const head = heads.lookup(connection.head);
    const length = Math.min(ctx.length, HEAD_BYTES);
    if (!head || length === 0) return ctx.next();
    const had = connection.have & (HEAD_BYTES - 1);
    if (ctx.copy(0, length, head.bytes, had)) connection.have = Math.min(had + length, HEAD_BYTES - 1);
    return ctx.next();
  },
});

/** Looks up the rule for a name that was found. */
export const matchStage = stage({
  name: 'match',
  hook: 'skSkb',
  uses: { ...routeMaps(1, 1), State, HEAD_BYTES, upperHalf, lowerHalf },
  program(ctx, { waiting, heads, names, State, HEAD_BYTES, upperHalf, lowerHalf }) {
    const localHi = upperHalf(ctx.family, ctx.localAddr6.hi);
    const localLo = lowerHalf(ctx.family, ctx.localAddr, ctx.localAddr6.lo);
    const remoteHi = upperHalf(ctx.family, ctx.remoteAddr6.hi);
    const remoteLo = lowerHalf(ctx.family, ctx.remoteAddr, ctx.remoteAddr6.lo);
    const connection = waiting.lookup({ localHi, localLo, remoteHi, remoteLo, localPort: ctx.localPort, remotePort: ctx.remotePort });
    if (!connection || connection.state !== State.named) return ctx.next();
    const head = heads.lookup(connection.head);
    if (!head) return ctx.next();
    const length = connection.length & 0xff;
    const end = connection.start + length;
    for (let i = 0; i < 254; i++) {
      if (i >= length) break;
      head.name.bytes[i] = (head.bytes[(end - 1 - i) & (HEAD_BYTES - 1)] as number) | 0x20;
    }
    head.name.bytes[length] = 0;
    head.name.prefixLen = 8 * (length + 1);
    const rule = names.lookup(head.name);
    if (rule) connection.route = rule.value;
    connection.state = rule ? State.ruled : State.unknown;
    return ctx.next();
  },
});
