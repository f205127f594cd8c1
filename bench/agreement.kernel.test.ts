/**
 * Both sides of a contest do the same work: verdict, packet and maps agree for whatever comes in, so that a ratio
 * compares code and not behaviour. Needs clang.
 */
import type { TestRunOptions } from '@tailrace/bpf';
import { fragments, packet, truncations } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { clangMissing } from './clang.ts';
import { contents } from './contents.ts';
import { type Entrant, type Loaded, openMachine } from './contest.ts';
import { HOOKS } from './hook.ts';
import { lightChain, SCRATCH_WORDS } from './light-chain.ts';
import { aclContest } from './suites/acl.ts';
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

/** Net/bpf/test_run.c refuses a frame at TC that is shorter than the IP header which its EtherType announces. */
const takenAtTc = corpus.filter((frame) => {
  const etherType = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);
  return frame.length >= 14 + (etherType === 0x0800 ? 20 : etherType === 0x86dd ? 40 : 0);
});

/** A packet, and at TC what is known of it beside its bytes. */
type Input = Pick<TestRunOptions, 'packet' | 'skb'>;
const inputs: Readonly<Record<(typeof HOOKS)[number], readonly Input[]>> = {
  xdp: corpus.map((packet) => ({ packet })),
  tcIngress: takenAtTc.flatMap((packet) => [{ packet }, { packet, skb: { gsoSegments: 3, gsoSize: 10 } }]),
};

const contests = HOOKS.flatMap((hook): readonly (readonly [string, readonly Input[], () => readonly Entrant[]])[] => [
  [`a chain of 3 stages at ${hook}`, inputs[hook], () => lightChain({ hook, length: 3 })],
  [`a fused chain at ${hook}`, inputs[hook], () => lightChain({ hook, length: 3, fused: true })],
  [`a chain without counters at ${hook}`, inputs[hook], () => lightChain({ hook, length: 3, counted: false, end: 'drop' })],
  [`a chain with metadata at ${hook}`, inputs[hook], () => lightChain({ hook, length: 4, metadata: true })],
  [`count at ${hook}`, inputs[hook], () => countContest(hook)],
  [`acl at ${hook}`, inputs[hook], () => aclContest(hook)],
]);

describe.skipIf(clangMissing() !== null)('Tailrace and C agree', () => {
  it.each([
    ...contests,
    [
      'a fused chain whose metadata cross',
      inputs.xdp,
      () => lightChain({ hook: 'xdp', length: 4, fused: true, metadata: true, crossing: true }),
    ] as const,
    ['a chain whose metadata cross', inputs.xdp, () => lightChain({ hook: 'xdp', length: 4, metadata: true, crossing: true })] as const,
    ['decap', inputs.xdp, decapContest] as const,
  ])('on %s', async (_name, frames, entrants) => {
    await using stack = new AsyncDisposableStack();
    const sides: Loaded[] = [];
    for (const entrant of entrants()) sides.push(await entrant.load(stack.use(await openMachine())));
    const [ours, ...others] = sides;
    expect(others.length).toBeGreaterThan(0);
    for (const input of frames) {
      const expected = await ours?.entry.testRun(input);
      for (const other of others)
        expect({ input, ...(await other.entry.testRun(input)) }).toEqual({ input, ...expected, durationNs: expect.any(Number) });
    }
    for (const other of others) expect(held(other)).toEqual(held(ours));
  });
});

/** What the maps of a side hold, by name. */
function held(side: Loaded | undefined): unknown {
  const readable = [...(side?.maps ?? [])].filter(([, { spec }]) => spec.type !== 'programArray');
  return Object.fromEntries(readable.map(([name, map]) => [name, name === 'state' ? counters(contents(map)) : contents(map)]));
}

/** A chain's state without what it keeps of the last packet, on whichever CPU that was. */
function counters(state: Readonly<Record<string, string>>): readonly string[] {
  return Object.values(state).map((sums) => sums.split(' ').slice(SCRATCH_WORDS).join(' '));
}
