/**
 * What an event costs: a record of 24 bytes for each packet, in a ring with room for it, beside the same stage without; and
 * in a ring that is full. Nobody reads meanwhile, on either side: the kernel wakes a reader only where it has read all there
 * was, so that what is measured is taking a place in the ring, filling it and letting it go.
 */
import type { AttachHook } from '@tailrace/bpf';
import { events, stage, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { clangMissing } from '../clang.ts';
import { type Entrant, measure } from '../contest.ts';
import { measureCost } from '../cost.ts';
import { returnValue } from '../hook.ts';
import { type Row, type Suite, withRatios } from '../row.ts';
import { type SingleCase, singleEntrants } from '../single.ts';

/** What is told of a packet. */
export const Seen = struct({ number: u64, source: u32, destination: u32, length: u16, protocol: u8 });

/** Tells of each IPv4 packet, and drops what it could not tell of. Its twin is twins/event.c. */
export const teller = (bytes: number) =>
  stage({
    name: 'event',
    hook: 'xdp',
    uses: { seen: events({ name: 'seen', value: Seen, bytes }) },
    program(ctx, { seen }) {
      const ip = ctx.ipv4();
      if (!ip || ip.ttl === 0) return ctx.drop();
      const event = { number: 7n, source: ip.saddr, destination: ip.daddr, length: ip.totalLength, protocol: ip.protocol };
      return seen.send(event) ? ctx.pass() : ctx.drop();
    },
  });

/** The same without a word. */
const silent = stage({
  name: 'event',
  hook: 'xdp',
  program(ctx) {
    const ip = ctx.ipv4();
    if (!ip || ip.ttl === 0) return ctx.drop();
    return ctx.pass();
  },
});

/** What is told of. */
export const eventFrame: Uint8Array = packet().ipv4().tcp({ dport: 80 }).padTo(64).bytes();

/** Room for all events of a round, and for few of them. */
const [LARGE, SMALL] = [2 ** 26, 4096];

/** So many that the ring takes ten runs and ten to warm up, should nine of each be disturbed. */
const MOST_REPEATS = 150_000;

/** The suite. */
export function event(hook: AttachHook): Suite {
  return {
    name: 'event',
    hook,
    about: 'an event of 24 bytes for each packet, ns a packet; lost: the ring is full',
    cases: ['told', 'lost'],
    async run(effort, wanted) {
      const rows: Row[] = [];
      const less = { ...effort, repeats: Math.min(effort.repeats, MOST_REPEATS) };
      const contest = { suite: 'event', hook, packet: eventFrame };
      if (wanted('told')) {
        const sides = { without: silentContest(hook), with: eventContest(hook, LARGE) };
        rows.push(...(await measureCost({ ...contest, name: 'told', returnValue: returnValue(hook, 'pass'), ...sides }, less)));
      }
      // where a ring is full it stays so: the last packet's verdict tells of all before it
      const lost = { ...contest, name: 'lost', returnValue: returnValue(hook, 'drop'), entrants: eventContest(hook, SMALL) };
      if (wanted('lost')) rows.push(...withRatios(await measure(lost, less)));
      const reason = clangMissing();
      return { rows, notes: reason === null ? [] : [reason] };
    },
  };
}

/** Both sides, with a ring of that size. */
export function eventContest(hook: AttachHook, bytes: number): readonly Entrant[] {
  const stage = teller(bytes);
  return singleEntrants(hook === 'xdp' ? stage : stage.at(hook), 'event', caseAt(hook));
}

function silentContest(hook: AttachHook): readonly Entrant[] {
  return singleEntrants(hook === 'xdp' ? silent : silent.at(hook), 'event', caseAt(hook), { SILENT: 1 });
}

function caseAt(hook: AttachHook): SingleCase {
  return { name: 'event', packet: eventFrame, returnValue: returnValue(hook, 'pass') };
}
