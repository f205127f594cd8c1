/**
 * Both sides of a contest do the same work: verdict, packet and maps agree for whatever comes in, so that a ratio
 * compares code and not behaviour. Needs clang.
 */
import { fragments, packet, truncations } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { clangMissing } from './clang.ts';
import { contents } from './contents.ts';
import { type Entrant, type Loaded, openMachine } from './contest.ts';
import { aclContest } from './suites/acl.ts';
import { entrants as chainEntrants } from './suites/chain.ts';
import { countContest } from './suites/count.ts';
import { decapContest, TUNNEL_END, TUNNEL_END6 } from './suites/decap.ts';

const tcp = packet().ipv4({ saddr: '10.1.2.3', daddr: '10.0.0.2' }).tcp({ sport: 1000, dport: 80 }).payload(20);
const udp = packet().ipv4({ saddr: '10.1.2.4', daddr: '10.0.0.2' }).udp({ sport: 1000, dport: 53 }).payload(20);
const options = packet()
  .ipv4({ saddr: '10.1.2.5', options: new Uint8Array([1, 1, 1, 0]) })
  .udp({ sport: 7, dport: 9 })
  .payload(64);

const tunnel = (tos: number, innerTos: number) => packet().ipv4({ daddr: TUNNEL_END, tos }).ipv4({ tos: innerTos }).udp().payload(30);
const tunnel6 = (trafficClass: number) => packet().ipv6({ daddr: TUNNEL_END6, trafficClass });

const corpus: readonly Uint8Array[] = [
  ...[tcp, udp, options].flatMap((frame) => [frame.bytes(), frame.bytes(), ...truncations(frame, 14)]),
  ...truncations(tunnel(0, 0), 14),
  ...[0, 1, 2, 3, 0xab].flatMap((tos) => [0, 1, 2, 3, 0xfc].map((innerTos) => tunnel(tos, innerTos).bytes())),
  packet()
    .ipv4({ daddr: TUNNEL_END, options: new Uint8Array([1, 1, 1, 0]) })
    .ipv4()
    .tcp()
    .bytes(),
  packet().ipv4({ daddr: TUNNEL_END, protocol: 4 }).ipv6().tcp().bytes(),
  packet().ipv6({ daddr: TUNNEL_END6, nextHeader: 4 }).ipv6().tcp().bytes(),
  packet().ipv6({ daddr: TUNNEL_END6, nextHeader: 41 }).ipv4().tcp().bytes(),
  packet().ipv6({ daddr: TUNNEL_END6, payloadLength: 60 }).ipv6({ payloadLength: 21 }).tcp().bytes(),
  ...[0, 1, 2, 3, 0xab].flatMap((outer) =>
    [0, 1, 2, 3, 0xfc].flatMap((inner) =>
      [
        packet().ipv4({ daddr: TUNNEL_END, tos: outer }).ipv6({ trafficClass: inner, flowLabel: 0xfffff }),
        tunnel6(outer).ipv6({ trafficClass: inner }),
        tunnel6(outer).ipv4({ tos: inner }),
      ].map((headers) => headers.udp().payload(30).bytes()),
    ),
  ),
  ...truncations(tunnel6(0).ipv4().udp(), 14),
  ...truncations(tunnel6(0).ipv6().udp(), 14),
  packet().ipv4({ daddr: TUNNEL_END, totalLength: 60 }).ipv4({ totalLength: 50 }).udp().payload(40).bytes(),
  ...fragments(tunnel(0, 0), 24),
  ...fragments(options, 24),
  ...[4, 0, 6, 15].map((version) => packet().ipv4({ version }).tcp().bytes()),
  ...[0, 19, 20, 23, 24, 27, 28, 1500].map((totalLength) => packet().ipv4({ totalLength }).udp().payload(8).bytes()),
  packet().ipv4().icmp().bytes(),
  ...truncations(packet().ipv6({ saddr: '2001:db8::1' }).tcp(), 14),
  packet().ipv6({ saddr: '2001:db8::1' }).tcp().bytes(),
  packet().ipv6().tcp().bytes(),
  packet().ipv6().udp().bytes(),
  packet().ethernet({ etherType: 0x88cc }).padTo(64).bytes(),
  packet().ethernet({ etherType: 0x0806 }).padTo(64).bytes(),
];

const contests: readonly (readonly [string, () => readonly Entrant[]])[] = [
  ['a chain of 3 stages', () => chainEntrants(3)],
  ['count', countContest],
  ['acl', aclContest],
  ['decap', decapContest],
];

describe.skipIf(clangMissing() !== null)('Tailrace and C agree', () => {
  it.each(contests)('on %s', async (_name, entrants) => {
    await using stack = new AsyncDisposableStack();
    const sides: Loaded[] = [];
    for (const entrant of entrants()) sides.push(await entrant.load(stack.use(await openMachine())));
    const [ours, ...others] = sides;
    expect(others.length).toBeGreaterThan(0);
    for (const frame of corpus) {
      const expected = await ours?.entry.testRun({ packet: frame });
      for (const other of others) {
        const { returnValue, packet } = await other.entry.testRun({ packet: frame });
        expect({ frame, returnValue, packet }).toEqual({ frame, returnValue: expected?.returnValue, packet: expected?.packet });
      }
    }
    for (const other of others) expect(held(other)).toEqual(held(ours));
  });
});

/** What the maps of a side hold, by name. */
function held(side: Loaded | undefined): unknown {
  const readable = [...(side?.maps ?? [])].filter(([, { spec }]) => spec.type !== 'programArray');
  return Object.fromEntries(readable.map(([name, map]) => [name, contents(map)]));
}
