/** Counting each five-tuple in a hash: a program of one stage, on a flow that is known. */

import type { AttachHook } from '@tailrace/bpf';
import { be16, be32, decode, hash, stage, struct, u8, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import type { Entrant } from '../contest.ts';
import { returnValue } from '../hook.ts';
import type { Suite } from '../row.ts';
import { type SingleCase, singleEntrants, singleStage } from '../single.ts';

const FlowKey = struct({ saddr: be32, daddr: be32, sport: be16, dport: be16, protocol: u8 });
const Flow = struct({ packets: u64, bytes: u64 });

/** Counts packets and bytes of each TCP and UDP flow. Its twin is twins/count.c. */
export const countFlows = stage({
  name: 'count',
  hook: 'xdp',
  uses: { flows: hash({ name: 'flows', key: FlowKey, value: Flow, maxEntries: 65_536 }) },
  program(ctx, { flows }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.pass();
    const ports = ctx.ports();
    if (!ports) return ctx.pass();
    const key = { saddr: ip.saddr, daddr: ip.daddr, sport: ports.sport, dport: ports.dport, protocol: ip.protocol };
    const bytes = BigInt(ip.totalLength);
    const flow = flows.lookup(key);
    if (flow) {
      flow.packets += 1n;
      flow.bytes += bytes;
    } else {
      flows.update(key, { packets: 1n, bytes }, 'noexist');
    }
    return ctx.pass();
  },
});

const countedAt = (hook: AttachHook) => (hook === 'xdp' ? countFlows : countFlows.at(hook));

const knownFlow = (hook: AttachHook): SingleCase => ({
  name: 'known flow',
  packet: packet().ipv4().tcp({ dport: 80 }).padTo(64).bytes(),
  returnValue: returnValue(hook, 'pass'),
  counted: (maps) => decode(Flow, maps('flows').readAll().values).packets,
});

/** The suite. */
export function count(hook: AttachHook): Suite {
  return singleStage({
    name: 'count',
    about: 'five-tuple counters in a hash, ns a packet',
    stage: countedAt(hook),
    twin: 'count',
    cases: [knownFlow(hook)],
  });
}

/** Both sides. */
export function countContest(hook: AttachHook): readonly Entrant[] {
  return singleEntrants(countedAt(hook), 'count', knownFlow(hook));
}
