/** The policy's stages, compiled and run by an engine, do on every packet what their bodies do as plain JavaScript. */
import type { Engine } from '@tailrace/bpf';
import type { KeyedHandle, Resource } from '@tailrace/stage';
import { fragments, type Packet, packet, runner, SimulatedMaps, simulate, simulatedHandle, truncations } from '@tailrace/testing';
import { VirtualTimeScheduler } from 'rxjs';
import { expect, test } from 'vitest';
import { decide, flow, PolicyController, related } from './index.ts';
import { Decision, Reason, tables } from './tables.ts';

type Handles = <H>(resource: Resource<unknown, H>) => H;

const HOST = '10.0.0.5';
const HOST6 = '2001:db8::5';
const PEER = '192.0.2.1';
const PEER6 = '2001:db8:1::1';
const rules = [
  { direction: 'ingress', protocol: 'tcp', ports: [80, [8000, 8099]] },
  { direction: 'ingress', peer: ['192.0.2.0/24', '2001:db8:1::/48'], protocol: 'udp' },
  { direction: 'ingress', protocol: 'icmp' },
] as const;

/** Packets towards the endpoint, and what can be wrong with them. */
function frames(): (Packet | Uint8Array)[] {
  const families = [
    packet().ipv4({ saddr: PEER, daddr: HOST, id: 9 }),
    packet().ipv6({ saddr: PEER6, daddr: HOST6 }),
    packet().vlan({ id: 9 }).ipv4({ saddr: PEER, daddr: HOST, id: 9 }),
    packet().ipv6({ saddr: PEER6, daddr: HOST6 }).hopByHop(),
  ];
  const each = families.flatMap((ip) => {
    const tcp = ip.tcp({ dport: 80, syn: true }).payload('hello');
    const udp = ip.udp({ dport: 53 }).payload(100);
    return [
      tcp,
      udp,
      ip.tcp({ dport: 8_050, syn: true }),
      ip.tcp({ dport: 8_100, syn: true }),
      ...[{ ack: true }, { fin: true, ack: true }, { rst: true }, { syn: true }, {}].map((flags) => ip.tcp({ dport: 80, ...flags })),
      ...truncations(tcp, 54),
      ...fragments(udp, 32),
      ...fragments(ip.tcp({ dport: 80, syn: true }).payload(60), 8),
      ip.gre().payload(20),
    ];
  });
  const quoted4 = packet().ipv4({ saddr: HOST, daddr: PEER });
  const quoted6 = packet().ipv6({ saddr: HOST6, daddr: PEER6 });
  const about4 = [
    quoted4.tcp({ sport: 80, dport: 40_000 }),
    quoted4.udp({ sport: 1, dport: 2 }),
    quoted4.icmp({ type: 0, id: 3 }),
    quoted4.icmp({ type: 5 }),
  ];
  const about6 = [
    quoted6.tcp({ sport: 80, dport: 40_000 }),
    quoted6.udp({ sport: 1, dport: 2 }),
    quoted6.icmpv6({ type: 129, id: 3 }),
    quoted6.gre(),
  ];
  const errors = [
    ...about4.flatMap((quoted) =>
      [3, 11].map((type) => packet().ipv4({ saddr: '203.0.113.1', daddr: HOST }).icmp({ type, code: 1 }).quote(quoted)),
    ),
    ...about6.flatMap((quoted) =>
      [1, 2].map((type) => packet().ipv6({ saddr: '2001:db8:9::9', daddr: HOST6 }).icmpv6({ type }).quote(quoted)),
    ),
  ];
  const echoes = [8, 0, 13].map((type) => packet().ipv4({ saddr: PEER, daddr: HOST }).icmp({ type, id: 3 }));
  const echoes6 = [128, 129, 135, 130].map((type) => packet().ipv6({ saddr: PEER6, daddr: HOST6 }).icmpv6({ type, id: 3 }).payload(20));
  return [
    ...each,
    ...echoes,
    ...echoes6,
    ...errors,
    ...errors
      .slice(0, 1)
      .concat(errors.slice(-1))
      .flatMap((error) => [...truncations(error, 54)]),
    packet().ipv6({ hopLimit: 255 }).icmpv6({ type: 135 }).payload(20),
    packet().ipv6({ hopLimit: 1 }).icmpv6({ type: 143 }).payload(20),
    packet().ipv4({ daddr: '10.9.9.9' }).udp(),
    packet().ipv4({ saddr: '198.51.100.9', daddr: HOST }).udp({ dport: 53 }),
    packet().arp().padTo(60),
    packet().ethernet({ etherType: 0x88cc }).payload(46),
  ];
}

/** Puts the endpoint's rules into the maps, as the controller does. */
function prepare(handle: Handles): void {
  const { flows, pieces, endpoints4, endpoints6, scopes, peers4, peers6, ports, hits, denials, budget, denied } = tables;
  const needs = {
    flows: handle(flows),
    pieces: handle(pieces),
    endpoints4: handle(endpoints4),
    endpoints6: handle(endpoints6),
    scopes: handle(scopes),
    peers4: handle(peers4),
    peers6: handle(peers6),
    ports: handle(ports),
    hits: handle(hits),
    denials: handle(denials),
    budget: handle(budget),
    denied: handle(denied),
    gracePeriod: () => Promise.resolve(),
    clock: new VirtualTimeScheduler(),
    bootClock: () => 0n,
  };
  const controller = new PolicyController(needs, { maxPeers: 1_000, maxPorts: 1_000 });
  controller.set({ name: 'host', address: [HOST, HOST6], rules });
}

/** Entries of a table without their times, which are the machine's. */
function content(table: KeyedHandle<unknown, object>): readonly string[] {
  const text = (value: unknown) => JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part));
  return table
    .getAll()
    .map(([key, value]) => text([key, { ...value, last: 0 }]))
    .sort();
}

/** The cases, on an engine. */
export function policyStagesSuite(engine: Engine): void {
  test('flow, at both hooks', async () => {
    for (const hook of ['tcIngress', 'tcEgress'] as const) {
      const maps = new SimulatedMaps();
      await using live = await runner(flow, { engine, hook });
      const now = process.hrtime.bigint();
      const outcomes = new Set<unknown>();
      for (const frame of [...frames(), ...frames()]) {
        const expected = simulate(flow, frame, { hook, maps, now });
        const actual = await live.run(frame);
        expect([actual.verdict, actual.exit, actual.meta]).toEqual([expected.verdict, expected.exit, expected.meta]);
        outcomes.add(expected.exit ?? expected.meta.policyDecision);
        // what decide would do: every second packet that may start a flow does
        if (expected.meta.policyDecision !== Decision.start || expected.meta.policyProtocol !== 6) continue;
        const at = { local: { hi: 0n, lo: 0xffff_0a00_0005n }, remote: { hi: 0n, lo: 0xffff_c000_0201n } };
        const key = { ...at, localPort: 80, remotePort: 40_000, protocol: 6 };
        const value = { last: now, rule: 1, endpoint: 1, inbound: true, answered: false, finIn: false, finOut: false, reset: false };
        simulatedHandle(maps, tables.flows).set(key, value);
        live.handle(tables.flows).set(key, value);
        const piece = { ...at, id: 9, protocol: 6, inbound: true };
        simulatedHandle(maps, tables.pieces).set(piece, { last: now, rule: 1, endpoint: 1 });
        live.handle(tables.pieces).set(piece, { last: now, rule: 1, endpoint: 1 });
      }
      expect(outcomes).toEqual(
        new Set([
          'icmpError',
          Decision.pass,
          Decision.start,
          Decision.once,
          Reason.state,
          Reason.fragment,
          Reason.malformed,
          Reason.protocol,
        ]),
      );
      expect(content(live.handle(tables.flows))).toEqual(content(simulatedHandle(maps, tables.flows)));
      expect(live.handle(tables.hits).sum(1)).toEqual(simulatedHandle(maps, tables.hits).sum(1));
      expect(live.handle(tables.hits).sum(1)?.packets).toBeGreaterThan(10n);
    }
  });

  test.each([true, false])('related, inbound %s', async (inbound) => {
    const stage = related.with({ inbound });
    const maps = new SimulatedMaps();
    await using live = await runner(stage, { engine, hook: 'tcIngress' });
    const now = process.hrtime.bigint();
    const [ends4, ends6] = [
      { host: { hi: 0n, lo: 0xffff_0a00_0005n }, peer: { hi: 0n, lo: 0xffff_c000_0201n } },
      { host: { hi: 0x2001_0db8_0000_0000n, lo: 5n }, peer: { hi: 0x2001_0db8_0001_0000n, lo: 1n } },
    ];
    for (const { host, peer } of [ends4, ends6])
      for (const [localPort, remotePort, protocol] of [
        [80, 40_000, 6],
        [40_000, 80, 6],
        [3, 1, 1],
        [3, 1, 58],
        [3, 0, 1],
      ] as const) {
        const key = { ...(inbound ? { local: host, remote: peer } : { local: peer, remote: host }), localPort, remotePort, protocol };
        const value = { last: now, rule: 1, endpoint: 1, inbound: true, answered: true, finIn: false, finOut: false, reset: false };
        simulatedHandle(maps, tables.flows).set(key, value);
        live.handle(tables.flows).set(key, value);
      }
    const decisions: unknown[] = [];
    for (const frame of frames()) {
      const expected = simulate(stage, frame, { maps, now });
      const actual = await live.run(frame);
      expect([actual.verdict, actual.meta]).toEqual([expected.verdict, expected.meta]);
      decisions.push(expected.meta.policyDecision);
    }
    expect(decisions.filter((decision) => decision === Decision.pass).length).toBeGreaterThan(3);
  });

  test('decide', async () => {
    const maps = new SimulatedMaps();
    const stage = decide.with({ eventsPerSecond: 3 });
    await using live = await runner(stage, { engine, hook: 'tcEgress' });
    prepare((resource) => simulatedHandle(maps, resource));
    prepare((resource) => live.handle(resource));
    const now = process.hrtime.bigint();
    const outcomes: Record<string, number> = {};
    for (const frame of frames()) {
      const meta = simulate(flow, frame, { maps: new SimulatedMaps() }).meta;
      const expected = simulate(stage, frame, { maps, meta, now });
      const actual = await live.run(frame, { meta });
      expect([actual.verdict, actual.exit]).toEqual([expected.verdict, expected.exit]);
      const outcome = expected.exit ?? expected.verdict;
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    expect(outcomes.next).toBeGreaterThan(40);
    expect(outcomes.denied).toBeGreaterThan(40);
    expect(content(live.handle(tables.flows))).toEqual(content(simulatedHandle(maps, tables.flows)));
    expect(content(live.handle(tables.pieces))).toEqual(content(simulatedHandle(maps, tables.pieces)));
    for (const table of [tables.hits, tables.denials]) {
      const [simulated, counted] = [simulatedHandle(maps, table), live.handle(table)];
      for (let index = 0; index < 64; index++) expect([index, counted.sum(index)]).toEqual([index, simulated.sum(index)]);
    }
  });
}
