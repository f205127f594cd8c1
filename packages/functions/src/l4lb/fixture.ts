/** A balancer over simulated maps, for tests: its stages one after the other, and a controller that can be started again. */
// biome-ignore lint/style/noRestrictedImports: only tests import this file
import { packet, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import { type Observable, Subject, VirtualTimeScheduler } from 'rxjs';
import { addVip, type BalancerConfig, emptyConfig } from './config.ts';
import { BalancerController, type VipStatus } from './controller.ts';
import { encap } from './encap.ts';
import { type HealthTarget, type NextHops, noNextHops, pick, type RealOptions, type VipOptions, vip } from './index.ts';
import { balancerTables } from './tables.ts';

export const WEB: VipOptions = { address: '198.51.100.1', port: 80, protocol: 'tcp' };
/** The MAC address behind which all reals are. */
export const HOP = '02:00:00:00:00:99';
export const real = (last: number, more: Partial<RealOptions> = {}): RealOptions => ({ address: `10.0.1.${last}`, nextHop: HOP, ...more });

/** The reals of all vips, each with its condition. */
export const conditions = (state: readonly VipStatus[]) =>
  state.flatMap(({ reals }) => reals.map(({ address, condition }) => [address, condition]));

/** Health and next hops are what the test says. */
export function simulatedBalancer(
  vips: readonly VipOptions[] = [],
  options: { readonly nextHops?: NextHops; readonly maxVips?: number; readonly maxReals?: number } = {},
) {
  const { maxVips = 4, maxReals = 7 } = options;
  const tables = balancerTables({ maxVips, maxReals, flows: 256, flowsPerCpu: 128, shards: 2 });
  const maps = new SimulatedMaps();
  /** A controller as a process has it that starts with these vips; `onWrite` sees packets between any two writes. */
  const start = (vips: readonly VipOptions[], more: { readonly nextHops?: NextHops; readonly onWrite?: () => void } = {}) => {
    const { nextHops = options.nextHops ?? noNextHops, onWrite = () => undefined } = more;
    const checks = new Map<string, Subject<boolean>>();
    const wasWell = new Set<string>();
    const health = {
      watch: ({ address, port }: HealthTarget, well?: boolean): Observable<boolean> => {
        const results = new Subject<boolean>();
        checks.set(`${address}:${port}`, results);
        if (well === true) wasWell.add(`${address}:${port}`);
        return results;
      },
    };
    const handles = {
      vips: observed(simulatedHandle(maps, tables.vips), onWrite),
      vips6: observed(simulatedHandle(maps, tables.vips6), onWrite),
      conns6: observed(simulatedHandle(maps, tables.conns6), onWrite),
      reals6: observed(simulatedHandle(maps, tables.reals6), onWrite),
      vipTraffic: observed(simulatedHandle(maps, tables.vipTraffic), onWrite),
      ring: observed(simulatedHandle(maps, tables.ring), onWrite),
      conns: observed(simulatedHandle(maps, tables.conns), onWrite),
      reals: observed(simulatedHandle(maps, tables.reals), onWrite),
      realTraffic: observed(simulatedHandle(maps, tables.realTraffic), onWrite),
    };
    const config = vips.reduce<BalancerConfig>(
      (before, one) => addVip(before, one),
      emptyConfig({ mode: 'tunnel', maxVips, maxReals, mtu: 1_500, sources: { ipv4: 0x0a00_0001 } }),
    );
    const controller = new BalancerController({ ...handles, health, nextHops, clock: new VirtualTimeScheduler() }, config);
    return { controller, handles, checks, wasWell, report: (key: string, well: boolean) => checks.get(key)?.next(well) };
  };
  const stages = [
    vip.with({ vips: tables.vips, vipTraffic: tables.vipTraffic }),
    pick.with({ conns: tables.conns, ring: tables.ring, reals: tables.reals }),
    encap.with({ reals: tables.reals, realTraffic: tables.realTraffic }),
  ];
  /** Sends a packet through the stages; the outer destination it left with, or how else it left. */
  const send = (sport: number, fields: Parameters<ReturnType<typeof packet>['tcp']>[0] = { ack: true }, dport = 80): string => {
    let frame = packet()
      .ipv4()
      .tcp({ sport, dport, ...fields })
      .bytes();
    let meta: Readonly<Record<string, unknown>> = {};
    for (const stage of stages) {
      const known = Object.fromEntries(Object.entries(meta).filter(([field]) => field in { ...stage.reads, ...stage.writes }));
      const result = simulate(stage, frame, { maps, meta: known });
      if (result.verdict === 'exit') return result.exit ?? '';
      if (result.verdict !== 'next') return [...result.packet.subarray(30, 34)].join('.');
      frame = result.packet as typeof frame;
      meta = { ...meta, ...result.meta };
    }
    return 'next';
  };
  return { ...start(vips), start, send };
}

/** The same handle; tells behind each call that may write. */
function observed<H extends object>(handle: H, onWrite: () => void): H {
  return new Proxy(handle, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        const result: unknown = value.apply(target, args);
        if (['set', 'setMany', 'delete', 'forget'].includes(String(name))) onWrite();
        return result;
      };
    },
  });
}
