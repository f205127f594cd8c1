/** VLAN tags on real links: in the frame at XDP, beside it at TC, and one answer at both; a host that terminates them by stages. */
import { type Host, type Packet, packet, parse, type Topology } from '@tailrace/testing';
import { hash, kernel, pipeline, stage, struct, u8, u16, u64 } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { watchLeaks } from './leak-watch.ts';
import { pairNetwork } from './pair-network.ts';

let network: Topology<'client' | 'server'>;
let client: Host;
let server: Host;

const leaks = watchLeaks(() => [client, server]);
beforeAll(async () => {
  network = await pairNetwork();
  ({ client, server } = network.hosts);
  await server.udpEcho({ port: 7, address: '::' });
});
afterAll(() => network.close());

const PLACE = { xdp: 0, inside: 1, popped: 2, outside: 3 } as const;
/** What the stage `notes` found, by where it stands. */
const seen = hash({
  name: 'seen',
  key: struct({ place: u8, tags: u8, etherType: u16, outer: u16, inner: u16, length: u16 }),
  value: u64,
  maxEntries: 64,
});
const notes = stage({
  name: 'notes',
  hook: 'xdp',
  uses: { seen, place: PLACE.xdp as number, port: 7 },
  program(ctx, { seen, place, port }) {
    const udp = ctx.udp();
    const ethernet = ctx.ethernet();
    if (!udp || !ethernet || (udp.dport !== port && udp.sport !== port)) return ctx.next();
    const key = {
      place,
      tags: ctx.vlanTags,
      etherType: ethernet.etherType,
      outer: ctx.vlanTci,
      inner: ctx.innerVlanTci,
      length: ctx.length & 0xffff,
    };
    const count = seen.lookup(key);
    if (count) count.value += 1n;
    else seen.update(key, 1n);
    return ctx.next();
  },
});
/** Takes all tags off, so that the network stack takes the packet. */
const pop = stage({
  name: 'pop',
  hook: 'tcIngress',
  program(ctx) {
    if (ctx.vlanTags > 0 && !ctx.popVlan()) return ctx.drop();
    if (ctx.vlanTags > 0 && !ctx.popVlan()) return ctx.drop();
    return ctx.next();
  },
});
/** Puts them back on what leaves: one for what goes to port 4001, two for 4002. */
const push = stage({
  name: 'push',
  hook: 'tcEgress',
  program(ctx) {
    const udp = ctx.udp();
    const port = udp ? udp.dport : 0;
    if (port === 4002 && !ctx.pushVlan(0x0007)) return ctx.drop();
    if ((port === 4001 || port === 4002) && !ctx.pushVlan(0x602a)) return ctx.drop();
    return ctx.next();
  },
});
const [atXdp, inside, popped, outside] = [
  notes,
  notes.at('tcIngress').as('inside').with({ place: PLACE.inside }),
  notes.at('tcIngress').as('popped').with({ place: PLACE.popped }),
  notes.at('tcEgress').as('outside').with({ place: PLACE.outside }),
];
const trunk = pipeline('trunk', { xdp: [atXdp], tcIngress: [inside, pop, popped], tcEgress: [push, outside] });

test.each(['tcx', 'clsact'] as const)('tags come in, are taken off, and are put back on, by %s', async (link) => {
  await using running = await trunk.run(kernel({ interfaces: ['client'], netns: server.namespace, tc: { link } }));
  leaks.remember();
  using wire = client.frames('server');
  const ethernet = packet().ethernet({ src: client.mac('server'), dst: server.mac('client') });
  const ask = async (sport: number, tagged: (frame: Packet) => Packet): Promise<void> => {
    for (const [family, over] of [
      ['ipv4', (frame: Packet) => frame.ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' })],
      ['ipv6', (frame: Packet) => frame.ipv6({ saddr: 'fd00::1', daddr: 'fd00::2' })],
    ] as const) {
      wire.send(over(tagged(ethernet)).udp({ sport, dport: 7 }).payload(`over ${family}`));
      const answer = await wire.receive({ where: (frame) => isAnswer(frame, sport) });
      const back = packet().ethernet({ src: server.mac('client'), dst: client.mac('server') });
      const layersOf = (frame: Packet | Uint8Array) =>
        parse(frame).map(({ kind, fields }) => (kind === 'vlan' ? `vlan ${fields.id} ${fields.priority}` : kind));
      expect(layersOf(answer)).toEqual(layersOf(over(tagged(back)).udp().payload('x')));
      expect(new TextDecoder().decode(answer.subarray(answer.length - 9))).toBe(`over ${family}`);
    }
  };
  await ask(4000, (frame) => frame);
  await ask(4001, (frame) => frame.vlan({ id: 42, priority: 3 }));
  await ask(4002, (frame) => frame.vlan({ id: 42, priority: 3 }).vlan({ id: 7 }));
  // As the frame is at each place: how many bytes its tags take in it, and what stands behind its addresses.
  const [bare, one, two] = [
    { tags: 0, outer: 0, inner: 0 },
    { tags: 1, outer: 0x602a, inner: 0 },
    { tags: 2, outer: 0x602a, inner: 7 },
  ];
  const row = (place: number, tags: typeof bare | undefined, lying: number, count = 1n) =>
    ([0x0800, 0x86dd] as const).map((ip) => {
      const length = 14 + 4 * lying + (ip === 0x0800 ? 20 : 40) + 8 + 9;
      return [{ place, ...tags, etherType: lying > 0 ? 0x8100 : ip, length }, count];
    });
  const expected = [
    ...[row(PLACE.xdp, bare, 0), row(PLACE.xdp, one, 1), row(PLACE.xdp, two, 2)],
    ...[row(PLACE.inside, bare, 0), row(PLACE.inside, one, 0), row(PLACE.inside, two, 1)],
    row(PLACE.popped, bare, 0, 3n),
    ...[row(PLACE.outside, bare, 0), row(PLACE.outside, one, 0), row(PLACE.outside, two, 1)],
  ].flat();
  expect(running.map(seen).getAll()).toHaveLength(expected.length);
  expect(running.map(seen).getAll()).toEqual(expect.arrayContaining(expected));
});

function isAnswer(frame: Uint8Array, port: number): boolean {
  const udp = parse(frame).find(({ kind }) => kind === 'udp');
  return udp?.fields.sport === '7' && udp.fields.dport === String(port);
}
