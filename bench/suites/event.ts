/** Events from a stage: a record of 24 bytes in a ring with room for it, and in one that is full. Nobody reads meanwhile. */
import { events, stage, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { clangMissing } from '../clang.ts';
import { type Entrant, measure } from '../contest.ts';
import { type Row, type Suite, withRatios } from '../row.ts';
import { type SingleCase, singleEntrants } from '../single.ts';

const Seen = struct({ number: u64, source: u32, destination: u32, length: u16, protocol: u8 });

/** Tells of each IPv4 packet. Its twin is twins/event.c. */
const teller = (bytes: number) =>
  stage({
    name: 'event',
    hook: 'xdp',
    uses: { seen: events({ name: 'seen', value: Seen, bytes }) },
    program(ctx, { seen }) {
      const ip = ctx.ipv4();
      if (!ip) return ctx.pass();
      const event = { number: 7n, source: ip.saddr, destination: ip.daddr, length: ip.totalLength, protocol: ip.protocol };
      return seen.send(event) ? ctx.pass() : ctx.drop();
    },
  });

const PASS = 2;
const DROP = 1;
const frame = packet().ipv4().tcp({ dport: 80 }).padTo(64).bytes();

/** Where a ring is full it stays so: the last packet's verdict tells of all before it. */
const cases: readonly (SingleCase & { readonly bytes: number })[] = [
  { name: 'told', packet: frame, returnValue: PASS, bytes: 2 ** 26 },
  { name: 'lost', packet: frame, returnValue: DROP, bytes: 4096 },
];

/** So many that the ring takes ten runs and ten to warm up, should nine of each be disturbed. */
const MOST_REPEATS = 150_000;

/** The suite. */
export const event: Suite = {
  name: 'event',
  about: 'an event of 24 bytes for each packet, ns a packet',
  cases: cases.map(({ name }) => name),
  async run(effort, wanted) {
    const rows: Row[] = [];
    const less = { ...effort, repeats: Math.min(effort.repeats, MOST_REPEATS) };
    for (const one of cases)
      if (wanted(one.name)) rows.push(...(await measure({ suite: 'event', ...one, entrants: eventContest(one.bytes) }, less)));
    const reason = clangMissing();
    return { rows: withRatios(rows), notes: reason === null ? [] : [reason] };
  },
};

/** Both sides. */
export function eventContest(bytes: number): readonly Entrant[] {
  return singleEntrants(teller(bytes), 'event', { name: 'event', packet: frame, returnValue: PASS });
}
