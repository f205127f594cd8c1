/** The monitor's stage, compiled and run by an engine, counts on every packet what its body counts as plain JavaScript. */
import type { Engine } from '@tailrace/bpf';
import { fragments, type Packet, packet, runner, SimulatedMaps, simulate, simulatedHandle, truncations } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { addCounts, flowName, noCounts } from './record.ts';
import { flowStage, monitorMaps } from './stage.ts';

type Table = ReturnType<ReturnType<typeof tableHandle>['getAll']>;
const declared = monitorMaps(1_024);
const stage = flowStage.with(declared);
const tableHandle = (maps: SimulatedMaps) => simulatedHandle(maps, declared.table);

function frames(): (Packet | Uint8Array)[] {
  const families = [
    packet().ipv4(),
    packet().ipv6(),
    packet().vlan({ id: 9 }).ipv4(),
    packet().vlan({ id: 9, tpid: 0x88a8 }).vlan().ipv6(),
  ];
  const each = families.flatMap((ip) => {
    const tcp = ip.tcp({ syn: true, ack: true }).payload('hello');
    const udp = ip.udp({ dport: 53 }).payload(100);
    return [tcp, udp, ip.tcp({ fin: true }), ...truncations(tcp, 54), ...fragments(udp, 32)];
  });
  return [
    ...each,
    packet().ipv4().icmp({ type: 3, code: 1 }),
    packet().ipv6().icmpv6({ type: 2 }),
    packet().ipv6().hopByHop().tcp(),
    packet().ipv6().destination().routing().udp(),
    packet().ipv6().fragment().tcp(),
    packet()
      .ipv4({ options: new Uint8Array(12).fill(1) })
      .tcp(),
    packet().ipv4({ protocol: 47 }).payload(30),
    packet().arp().padTo(60),
    packet().ethernet({ etherType: 0x88cc }).payload(46),
  ];
}

/** Flows with what was counted of them; times are the machine's. */
const content = (table: Table) =>
  new Map(
    table.map(([key, counts]) => {
      const totals = noCounts();
      addCounts(totals, counts);
      expect(totals.first > 0n && totals.first <= totals.last).toBe(true);
      return [flowName(key), [totals.packets, totals.bytes, totals.tcpFlags]];
    }),
  );

/** The cases, on an engine. */
export function monitorStageSuite(engine: Engine): void {
  test.each(['tcIngress', 'tcEgress'] as const)('at %s', async (hook) => {
    const maps = new SimulatedMaps();
    await using live = await runner(stage, { engine, hook });
    for (const frame of frames())
      for (const skb of [{}, { gsoSegments: 3, gsoSize: 20 }]) {
        const expected = simulate(stage, frame, { hook, maps, skb, now: 1n });
        const actual = await live.run(frame, { skb });
        expect([actual.verdict, actual.packet]).toEqual([expected.verdict, expected.packet]);
      }
    expect(content(live.handle(declared.table).getAll())).toEqual(content(tableHandle(maps).getAll()));
    expect(tableHandle(maps).size).toBe(18);
    expect(live.handle(declared.other).sum(0)).toEqual(simulatedHandle(maps, declared.other).sum(0));
    expect(live.handle(declared.lost).sum(0)?.packets).toBe(0n);
  });

  test('a full table: what is lost is counted, and nothing else', async () => {
    const few = monitorMaps(4);
    await using live = await runner(flowStage.with(few), { engine, hook: 'tcEgress' });
    for (let sport = 1; sport <= 300; sport++) await live.run(packet().ipv4().tcp({ sport }));
    const kept = live
      .handle(few.table)
      .getAll()
      .reduce((sum, [, counts]) => sum + counts.reduce((all, { packets }) => all + packets, 0n), 0n);
    const lost = live.handle(few.lost).sum(0)?.packets ?? 0n;
    expect([kept + lost, kept >= 4n && lost > 200n]).toEqual([300n, true]);
  });
}
