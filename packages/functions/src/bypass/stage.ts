/**
 * Connections between two sockets of one host, carried past TCP. The events of a cgroup's sockets put both ends into a map; what one
 * end sends goes to what the other reads. Which way a connection goes is decided by its first bytes and for good: bytes that went
 * through TCP and bytes that did not would otherwise overtake one another.
 */
import { arrayMap, lruHash, sockhash, stage, struct, u32, u64 } from '@tailrace/stage';
import { lowerHalf, upperHalf } from '../connection.ts';

/** An end of a connection: processes of one cgroup may be in many namespaces, with connections that are the same but for that. */
const endKey = struct({ netns: u64, localHi: u64, localLo: u64, remoteHi: u64, remoteLo: u64, localPort: u32, remotePort: u32 });

/** How data of a socket go. */
export const Way = { undecided: 0, past: 1, through: 2 } as const;

/** The maps of one bypass, for so many sockets: two of each connection. */
export function bypassMaps(maxSockets: number) {
  return {
    ends: sockhash({ name: 'ends', key: endKey, maxEntries: maxSockets }),
    ways: lruHash({ name: 'ways', key: endKey, value: struct({ way: u32 }), maxEntries: maxSockets }),
    /** Ends that found no room. */
    missed: arrayMap({ name: 'missed', value: struct({ ends: u64 }), maxEntries: 1 }),
  };
}

/** Notes sockets whose connection stands. */
export const trackStage = stage({
  name: 'track',
  hook: 'sockOps',
  uses: { ...bypassMaps(2), upperHalf, lowerHalf },
  program(ctx, { ends, ways, missed, upperHalf, lowerHalf }) {
    if (!ctx.activeEstablished && !ctx.passiveEstablished) return ctx.next();
    const localHi = upperHalf(ctx.family, ctx.localAddr6.hi);
    const localLo = lowerHalf(ctx.family, ctx.localAddr, ctx.localAddr6.lo);
    const remoteHi = upperHalf(ctx.family, ctx.remoteAddr6.hi);
    const remoteLo = lowerHalf(ctx.family, ctx.remoteAddr, ctx.remoteAddr6.lo);
    const netns = ctx.netnsCookie;
    const localPort = ctx.localPort;
    const remotePort = ctx.remotePort;
    // the other end is not there yet: what stands in its place is of a connection that was
    if (ctx.activeEstablished)
      ways.delete({
        netns,
        localHi: remoteHi,
        localLo: remoteLo,
        remoteHi: localHi,
        remoteLo: localLo,
        localPort: remotePort,
        remotePort: localPort,
      });
    const key = { netns, localHi, localLo, remoteHi, remoteLo, localPort, remotePort };
    // the way last: it tells the other end, on another CPU, that this one can be handed data. No room: the connection stays with TCP
    if (ends.add(key)) ways.update(key, { way: 0 });
    else {
      const counted = missed.lookup(0);
      if (counted) counted.ends += 1n;
    }
    return ctx.next();
  },
});

/** Hands data to the other end, where that is on this host. */
export const handOverStage = stage({
  name: 'handOver',
  hook: 'skMsg',
  uses: { ...bypassMaps(2), Way, upperHalf, lowerHalf },
  program(ctx, { ends, ways, Way, upperHalf, lowerHalf }) {
    const localHi = upperHalf(ctx.family, ctx.localAddr6.hi);
    const localLo = lowerHalf(ctx.family, ctx.localAddr, ctx.localAddr6.lo);
    const remoteHi = upperHalf(ctx.family, ctx.remoteAddr6.hi);
    const remoteLo = lowerHalf(ctx.family, ctx.remoteAddr, ctx.remoteAddr6.lo);
    const netns = ctx.netnsCookie;
    const own = ways.lookup({ netns, localHi, localLo, remoteHi, remoteLo, localPort: ctx.localPort, remotePort: ctx.remotePort });
    if (!own) return ctx.next();
    const other = {
      netns,
      localHi: remoteHi,
      localLo: remoteLo,
      remoteHi: localHi,
      remoteLo: localLo,
      localPort: ctx.remotePort,
      remotePort: ctx.localPort,
    };
    if (own.way === Way.undecided) own.way = ways.lookup(other) ? Way.past : Way.through;
    if (own.way === Way.through) return ctx.next();
    return ctx.redirectIngress(ends, other, 'pass');
  },
});
