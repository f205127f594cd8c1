/**
 * Connections between two sockets of one host, carried past TCP. The events of a cgroup's sockets put both ends into a map; what one
 * end sends goes to what the other reads. Nothing in the kernel holds such a sender back, so that one whose other end is silent for
 * too long goes on through TCP, which does. That is for good: a reader takes what was handed over before it takes what came by TCP
 * (tcp_bpf_recvmsg, net/ipv4/tcp_bpf.c, v6.18), so that bytes keep their order from past to through, and would lose it on the way back.
 */
import { arrayMap, lruHash, sockhash, stage, struct, u32, u64 } from '@tailrace/stage';
import { hostConnectionKey, lowerHalf, upperHalf } from '../connection.ts';

/** How data of a socket go. */
export const Way = { past: 0, through: 1 } as const;

/**
 * An end of a connection: how much it has sent, how much that may be before it listens to the other end again, and how much that
 * one had sent when it last did. What is sent counts with what the kernel keeps for each message, or single bytes would hide it.
 */
const End = struct({ way: u32, sent: u64, due: u64, heard: u64 });

/** What the kernel keeps for a message that waits: struct sk_msg, in a kmalloc-1k. */
const RECORD_BYTES = 1024;

/** The maps of one bypass, for so many sockets: two of each connection. */
export function bypassMaps(maxSockets: number) {
  return {
    ends: sockhash({ name: 'ends', key: hostConnectionKey, maxEntries: maxSockets }),
    ways: lruHash({ name: 'ways', key: hostConnectionKey, value: End, maxEntries: maxSockets }),
    /** Ends of connections that found no room, and those that were left to TCP since nothing answered them. */
    counts: arrayMap({ name: 'counts', value: struct({ withoutRoom: u64, unanswered: u64 }), maxEntries: 1 }),
  };
}

/** Notes sockets whose connection stands. */
export const trackStage = stage({
  name: 'track',
  hook: 'sockOps',
  uses: { ...bypassMaps(2), Way, upperHalf, lowerHalf },
  program(ctx, { ends, ways, counts, Way, upperHalf, lowerHalf }) {
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
    if (ends.add(key)) ways.update(key, { way: Way.past, sent: 0n, due: 0n, heard: 0xffff_ffff_ffff_ffffn });
    else {
      const counted = counts.lookup(0);
      if (counted) counted.withoutRoom += 1n;
    }
    return ctx.next();
  },
});

/** Hands data to the other end, where that is on this host. */
export const handOverStage = stage({
  name: 'handOver',
  hook: 'skMsg',
  uses: { ...bypassMaps(2), maxUnanswered: 0, Way, RECORD_BYTES, upperHalf, lowerHalf },
  program(ctx, { ends, ways, counts, maxUnanswered, Way, RECORD_BYTES, upperHalf, lowerHalf }) {
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
    own.sent += BigInt(ctx.length + RECORD_BYTES);
    if (own.way === Way.past && own.sent > own.due) {
      const them = ways.lookup(other);
      if (them && them.sent !== own.heard) {
        own.heard = them.sent;
        own.due = own.sent + BigInt(maxUnanswered);
      } else {
        own.way = Way.through;
        const counted = counts.lookup(0);
        if (counted && own.due > 0n) counted.unanswered += 1n;
      }
    }
    if (own.way === Way.through) return ctx.next();
    return ctx.redirectIngress(ends, other, 'pass');
  },
});
