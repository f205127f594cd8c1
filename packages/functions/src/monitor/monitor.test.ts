import { fragments, type Packet, packet, SimulatedMaps, type SimulationOptions, simulate, simulatedHandle } from '@tailrace/testing';
import fc from 'fast-check';
import { VirtualTimeScheduler } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { Direction, type EndedFlow, flowStage, MonitorController, type MonitorSettings, monitor, monitorMaps } from './index.ts';

const second = 1_000_000_000n;

/** A monitor over simulated maps; time stands at `at.now`, in ns since boot, an hour after 1970. */
function setUp(settings: Partial<MonitorSettings> = {}, maxFlows = 64) {
  const declared = monitorMaps(maxFlows);
  const maps = new SimulatedMaps();
  const at = { now: 10n * second };
  const clock = new VirtualTimeScheduler();
  clock.now = () => 3_600_000 + Number(at.now) / 1e6;
  /** What happens while the controller waits for programs in the old epoch. */
  const during = { grace: () => {} };
  const needs = {
    table: simulatedHandle(maps, declared.table),
    epoch: simulatedHandle(maps, declared.epoch),
    lost: simulatedHandle(maps, declared.lost),
    other: simulatedHandle(maps, declared.other),
    gracePeriod: async () => during.grace(),
    clock,
    bootClock: () => at.now,
  };
  const defaults = { idleMs: 15_000, activeMs: 60_000, endMs: 2_000, sweepMs: 1_000, maxRecords: 256 };
  const controller = new MonitorController(needs, { ...defaults, ...settings });
  const ended: EndedFlow[] = [];
  const state: { completed: boolean; error?: unknown } = { completed: false };
  controller.flows$.subscribe({
    next: (flow) => ended.push(flow),
    error: (error: unknown) => {
      state.error = error;
    },
    complete: () => {
      state.completed = true;
    },
  });
  const stages = {
    in: flowStage.with({ ...declared, direction: Direction.in }),
    out: flowStage.with({ ...declared, direction: Direction.out }),
  };
  const send = (frame: Packet | Uint8Array, { direction = 'in', ...options }: { direction?: 'in' | 'out' } & SimulationOptions = {}) =>
    expect(simulate(stages[direction], frame, { maps, now: at.now, ...options }).verdict).toBe('next');
  return { controller, clock, ended, state, at, send, during, needs };
}

const tcp = (fields: Parameters<Packet['tcp']>[0] = {}) => packet().ipv4().tcp(fields).payload(100);

describe('the stage', () => {
  it('tells flows apart by addresses, ports, protocol, direction, interface and tag', () => {
    const { controller, send } = setUp();
    send(tcp({ syn: true }));
    send(tcp({ ack: true, psh: true }));
    send(tcp({ dport: 81 }));
    send(packet().ipv4().udp({ sport: 40_000, dport: 80 }).payload(100));
    send(packet().ipv4({ saddr: '192.0.2.9' }).tcp());
    send(tcp(), { direction: 'out' });
    send(tcp(), { skb: { ifindex: 7 } });
    send(packet().vlan({ id: 9 }).ipv4().tcp().payload(100));
    send(packet().ipv6().tcp());
    const flows = controller.flows();
    expect(flows).toHaveLength(8);
    expect(flows[0]).toEqual({
      direction: 'in',
      ifindex: 1,
      vlan: 0,
      source: '192.0.2.1',
      destination: '198.51.100.1',
      protocol: 6,
      sourcePort: 40_000,
      destinationPort: 80,
      fragments: false,
      packets: 2n,
      bytes: 308n,
      tcpFlags: 0x1a,
      first: 3_610_000,
      last: 3_610_000,
    });
    expect(flows.map(({ direction, ifindex, vlan }) => [direction, ifindex, vlan])).toContainEqual(['in', 1, 9]);
    expect(flows.at(-1)).toMatchObject({ source: '2001:db8::1', destination: '2001:db8::2', packets: 1n });
  });

  it('counts segments, and their headers on the wire', () => {
    const { controller, send } = setUp();
    send(packet().ipv4().tcp().payload(3_000), { skb: { gsoSegments: 3, gsoSize: 1_000 } });
    send(packet().ipv6().udp().payload(3_000), { skb: { gsoSegments: 3, gsoSize: 1_000 } });
    send(packet().ipv4().tcp({ sport: 1 }).payload(2_000), { skb: { gsoSegments: 2 }, offloadedVlan: { tci: 5, tpid: 0x8100 } });
    expect(controller.flows().map(({ packets, bytes, vlan }) => [packets, bytes, vlan])).toEqual([
      [3n, 3n * (1_000n + 54n), 0],
      [3n, 3n * (1_000n + 62n), 0],
      [2n, 2n * (1_000n + 58n), 5],
    ]);
  });

  it('has ICMP by type and code, pieces of packets by their addresses, and what is no IP apart', () => {
    const { controller, send } = setUp();
    send(packet().ipv4().icmp({ id: 1 }));
    send(packet().ipv4().icmp({ id: 2 }));
    send(packet().ipv4().icmp({ type: 3, code: 4 }));
    send(packet().ipv6().icmpv6({ type: 129 }));
    for (const piece of fragments(packet().ipv4().udp().payload(100), 32)) send(piece);
    for (const piece of fragments(packet().ipv6().udp().payload(100), 32)) send(piece);
    send(packet().ipv4({ protocol: 47 }).payload(20));
    send(packet().arp());
    expect(controller.flows().map(({ icmp, fragments, protocol, packets }) => ({ icmp, fragments, protocol, packets }))).toEqual([
      { icmp: { type: 8, code: 0 }, fragments: false, protocol: 1, packets: 2n },
      { icmp: { type: 3, code: 4 }, fragments: false, protocol: 1, packets: 1n },
      { icmp: { type: 129, code: 0 }, fragments: false, protocol: 58, packets: 1n },
      { icmp: undefined, fragments: true, protocol: 17, packets: 4n },
      { icmp: undefined, fragments: true, protocol: 17, packets: 4n },
      { icmp: undefined, fragments: false, protocol: 47, packets: 1n },
    ]);
    expect(controller.counters().other).toEqual({ packets: 1n, bytes: 42n });
  });
});

describe('the controller', () => {
  it('ends records by idle time, by age and after FIN or RST', async () => {
    const { controller, ended, send, at } = setUp();
    send(tcp({ sport: 1, syn: true }));
    send(tcp({ sport: 2, fin: true, ack: true }));
    send(tcp({ sport: 3, rst: true }));
    await controller.sweep();
    expect(ended).toEqual([]);
    at.now += 2n * second;
    await controller.sweep();
    expect(ended.map(({ sourcePort, end }) => [sourcePort, end])).toEqual([
      [2, 'end'],
      [3, 'end'],
    ]);
    for (let seconds = 2; seconds < 62; seconds += 10) {
      at.now += 10n * second;
      send(tcp({ sport: 1, ack: true }));
      await controller.sweep();
    }
    expect(ended.slice(2)).toMatchObject([
      { sourcePort: 1, end: 'active', packets: 7n, first: 3_610_000, last: 3_672_000, tcpFlags: 0x12 },
    ]);
    send(tcp({ sport: 1 }));
    await controller.sweep();
    expect(controller.flows()).toMatchObject([{ packets: 1n, first: 3_672_000 }]);
    at.now += 15n * second;
    await controller.sweep();
    expect(ended.slice(3)).toMatchObject([{ sourcePort: 1, end: 'idle', packets: 1n }]);
    expect(controller.flows()).toEqual([]);
    expect(controller.counters().ended).toBe(4n);
  });

  it('leaves what comes while it sweeps to the next sweep, and loses none of it', async () => {
    const { controller, send, during, needs } = setUp();
    send(tcp());
    const seen: bigint[] = [];
    during.grace = () => {
      send(tcp());
      seen.push(controller.flows().reduce((sum, { packets }) => sum + packets, 0n));
    };
    await controller.sweep();
    expect(needs.table.getAll()).toMatchObject([[{ epoch: 1 }, [{ packets: 1n }]]]);
    await controller.sweep();
    expect(seen).toEqual([2n, 3n]);
    expect(controller.flows()).toMatchObject([{ packets: 3n }]);
  });

  it('counts what finds no room, and takes it once there is room again', async () => {
    const { controller, send } = setUp({}, 2);
    for (const sport of [1, 2, 3, 3]) send(tcp({ sport }));
    expect(controller.flows()).toHaveLength(2);
    expect(controller.counters().lost).toEqual({ packets: 2n, bytes: 308n });
    await controller.sweep();
    for (const sport of [3, 4]) send(tcp({ sport }));
    expect(controller.flows().map(({ sourcePort }) => sourcePort)).toEqual([1, 2, 3, 4]);
  });

  it('evicts the record that was quiet for the longest time', async () => {
    const { controller, ended, send } = setUp({ maxRecords: 2 });
    send(tcp({ sport: 1 }));
    send(tcp({ sport: 2 }));
    await controller.sweep();
    send(tcp({ sport: 1 }));
    await controller.sweep();
    send(tcp({ sport: 3 }));
    await controller.sweep();
    expect(ended.map(({ sourcePort, end }) => [sourcePort, end])).toEqual([[2, 'evicted']]);
    expect(controller.flows().map(({ sourcePort, packets }) => [sourcePort, packets])).toEqual([
      [1, 2n],
      [3, 1n],
    ]);
  });

  it('ends everything when it stops, and leaves no timer', async () => {
    const { controller, clock, ended, state, send } = setUp();
    send(tcp({ sport: 1 }));
    await controller.sweep();
    send(tcp({ sport: 1 }));
    send(tcp({ sport: 2 }));
    await controller[Symbol.asyncDispose]();
    expect(ended.map(({ sourcePort, packets, end }) => [sourcePort, packets, end])).toEqual([
      [1, 2n, 'forced'],
      [2, 1n, 'forced'],
    ]);
    expect(state.completed).toBe(true);
    expect(clock.actions).toEqual([]);
  });

  it('loses nothing where programs go on when it is left: the next process counts on', async () => {
    const { controller, needs, send } = setUp();
    await controller[Symbol.asyncDispose]();
    let sent = 0n;
    const count = (): void => {
      send(tcp({ sport: 1 }));
      sent += 1n;
    };
    // packets come at all times: also between being read and being deleted
    const table = new Proxy(needs.table, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          count();
          return value.apply(target, args);
        };
      },
    });
    const settings = { idleMs: 15_000, activeMs: 60_000, endMs: 2_000, sweepMs: 1_000, maxRecords: 256 };
    let told = 0n;
    const run = async (changed: Partial<typeof needs>): Promise<void> => {
      const one = new MonitorController({ ...needs, ...changed }, settings);
      one.flows$.subscribe(({ packets }) => {
        told += packets;
      });
      count();
      await one[Symbol.asyncDispose]();
    };
    await run({ table });
    await run({ table });
    await run({});
    expect(sent).toBeGreaterThan(6n);
    expect(told).toBe(sent);
  });

  it('tells subscribers what went wrong, and sweeps no more', async () => {
    const { controller, clock, during, state } = setUp();
    during.grace = () => {
      throw new RangeError('no grace');
    };
    clock.maxFrames = 1_000;
    clock.flush();
    await expect(controller.sweep()).rejects.toThrow('no grace');
    expect(state.error).toEqual(new RangeError('no grace'));
    expect(clock.actions).toEqual([]);
    await controller[Symbol.asyncDispose]();
  });

  it('has every packet in exactly one record, whatever the order of packets and sweeps', async () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ sport: fc.integer({ min: 1, max: 12 }), segments: fc.integer({ min: 1, max: 5 }) }) },
      { weight: 1, arbitrary: fc.constant('sweep' as const) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 20 }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { controller, ended, send, at } = setUp({ maxRecords: 8 }, 8);
        let [packets, bytes] = [0n, 0n];
        for (const what of steps) {
          if (what === 'sweep') await controller.sweep();
          else if (typeof what === 'number') at.now += BigInt(what) * second;
          else {
            send(tcp({ sport: what.sport }), { skb: { gsoSegments: what.segments } });
            packets += BigInt(what.segments);
            bytes += 154n + 54n * BigInt(what.segments - 1);
          }
        }
        const { lost } = controller.counters();
        const all = [...ended, ...controller.flows(), lost];
        expect(all.reduce((sum, flow) => sum + flow.packets, 0n)).toBe(packets);
        expect(all.reduce((sum, flow) => sum + flow.bytes, 0n)).toBe(bytes);
        expect(all.every((flow) => flow === lost || flow.packets > 0n)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });
});

describe('monitor()', () => {
  it('makes maps of its own each time, and both chains share them', () => {
    const [first, second] = [monitor(), monitor({ side: 'peer' })];
    const uses = (fn: typeof first) => [fn.stages.tcIngress?.[0]?.uses, fn.stages.tcEgress?.[0]?.uses];
    expect(uses(first)[0]?.table).toBe(uses(first)[1]?.table);
    expect(uses(first)[0]?.table).not.toBe(uses(second)[0]?.table);
    expect(uses(first).map((bag) => bag?.direction)).toEqual([0, 1]);
    expect(uses(second).map((bag) => bag?.direction)).toEqual([1, 0]);
  });

  it('checks its options', () => {
    expect(() => monitor({ maxFlows: 0 })).toThrow('monitor: maxFlows is 0, expected 1..16777216');
    expect(() => monitor({ maxRecords: 10 })).toThrow('monitor: maxRecords is 10, expected 65536..67108864');
    expect(() => monitor({ sweepMs: 0 })).toThrow('monitor: sweepMs is 0, expected 1..2147483647 ms');
    expect(() => monitor({ idleMs: Number.NaN })).toThrow('monitor: idleMs is NaN');
    expect(() => monitor({ side: 'left' as 'host' })).toThrow("monitor: side is 'left', expected 'host' or 'peer'");
  });
});
