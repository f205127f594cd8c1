/** A balancer with full NAT over simulated maps, for tests: its stages one after the other, as the chains have them. */
import { ip } from '@tailrace/stage';
// biome-ignore lint/style/noRestrictedImports: only tests import this file
import { frameBytes, type Outcome, type Packet, SimulatedMaps, type SimulationResult, simulate, simulatedHandle } from '@tailrace/testing';
import { addVip, type BalancerConfig, emptyConfig, removeVip, type VipOptions } from '../config.ts';
import { adopted, type FoundTables, readTables } from '../found.ts';
import { icmpError } from '../icmp-error.ts';
import { MapWriter } from '../map-writer.ts';
import { pick } from '../pick.ts';
import { planBalancer } from '../plan.ts';
import { balancerTables } from '../tables.ts';
import { vip } from '../vip.ts';
import type { PortRange } from './leases.ts';
import { reply } from './reply.ts';
import { replyError } from './reply-error.ts';
import { restore } from './restore.ts';
import { restoreError } from './restore-error.ts';
import { send } from './send.ts';
import { NAT_PORTS, natTables } from './tables.ts';
import { translate } from './translate.ts';
import { translateError } from './translate-error.ts';

/** The balancer's address. */
export const SOURCE = '10.0.0.1';
/** The MAC address behind which all reals are, unless said otherwise. */
export const HOP = '02:00:00:00:00:99';

/** How a simulated balancer is made. */
export interface SimulatedNatOptions {
  readonly ports?: PortRange;
  readonly maxFlows?: number;
}

/** What became of a packet: with the stage that it left at. */
export interface NatOutcome extends Outcome {
  readonly stage: string;
  readonly packet: Uint8Array;
}

/** A real without checks. */
export const real = (address: string, nextHop: NonNullable<NonNullable<VipOptions['reals']>[number]['nextHop']> = HOP) => ({
  address,
  nextHop,
});

/** Time stands still unless a test moves `at.now`, in ns since boot. */
export function simulatedNat(vips: readonly VipOptions[], { ports = NAT_PORTS, maxFlows = 1_024 }: SimulatedNatOptions = {}) {
  const tables = balancerTables({ maxVips: 4, maxReals: 15, flows: 1_024, flowsPerCpu: 128, shards: 2 });
  const nat = natTables({ maxVips: 4, maxFlows, ports });
  const maps = new SimulatedMaps();
  const at = { now: 1_000_000_000_000n, cpu: 0 };
  const source = ip(SOURCE);
  const leases = simulatedHandle(maps, nat.leases);
  const handles = {
    vips: simulatedHandle(maps, tables.vips),
    vips6: simulatedHandle(maps, tables.vips6),
    vipTraffic: simulatedHandle(maps, tables.vipTraffic),
    ring: simulatedHandle(maps, tables.ring),
    conns: simulatedHandle(maps, tables.conns),
    conns6: simulatedHandle(maps, tables.conns6),
    reals: simulatedHandle(maps, tables.reals),
    reals6: simulatedHandle(maps, tables.reals6),
    realTraffic: simulatedHandle(maps, tables.realTraffic),
  };
  const natHandles = { leases, natVips: simulatedHandle(maps, nat.natVips) };
  const empty = emptyConfig({ mode: 'nat', maxVips: 4, maxReals: 15, mtu: 1_500, sources: { ipv4: source }, natPorts: ports });
  const writerOver = (found: FoundTables): MapWriter => new MapWriter({ ...handles, nat: natHandles }, empty, found);
  let writer = writerOver(readTables(handles));
  let config: BalancerConfig = empty;
  const down = new Set<string>();
  const write = (): void => {
    const health = new Map(
      config.vips.flatMap(({ reals, healthPort }) => reals.map(({ address }) => [`${address}:${healthPort}`, !down.has(address)] as const)),
    );
    writer.write(planBalancer(config, { health, hops: new Map() }));
  };
  const change = (by: (before: BalancerConfig) => BalancerConfig): void => {
    config = by(config);
    write();
  };
  for (const options of vips) change((before) => addVip(before, options));
  const { leases: natLeases, natVips } = nat;
  const { reals, realTraffic, ring, conns } = tables;
  const stages = {
    vip: vip.with({ vips: tables.vips, vips6: tables.vips6, vipTraffic: tables.vipTraffic }),
    icmpError: icmpError.with({ vips: tables.vips, vips6: tables.vips6, vipTraffic: tables.vipTraffic }),
    pick: pick.with({ conns, ring, reals }),
    translate: translate.with({ reals, realTraffic, leases: natLeases, natVips, source }),
    translateError: translateError.with({ reals, realTraffic, leases: natLeases, natVips, source }),
    send: send.with({ reals }),
    reply: reply.with({ leases: natLeases, source, ports }),
    replyError: replyError.with({ leases: natLeases, natVips, source }),
    restore: restore.with({ leases: natLeases, natVips, ports }),
    restoreError: restoreError.with({ leases: natLeases, source }),
  };
  type Name = keyof typeof stages;
  /** Where packets go from a stage, by its exits and by `next`; elsewhere they are at their end. */
  const onward: Partial<Readonly<Record<Name, Readonly<Record<string, Name>>>>> = {
    vip: { next: 'pick', icmpError: 'icmpError' },
    icmpError: { next: 'pick' },
    pick: { next: 'translate' },
    translate: { tagged: 'send', icmp: 'translateError' },
    translateError: { next: 'send' },
    reply: { icmp: 'replyError' },
    restore: { icmp: 'restoreError' },
  };
  const through = (first: Name, frame: Packet | Uint8Array): NatOutcome => {
    let packet = frameBytes(frame);
    let meta: Readonly<Record<string, unknown>> = {};
    for (let name: Name = first; ; ) {
      const stage = stages[name];
      const known = Object.fromEntries(Object.entries(meta).filter(([field]) => field in { ...stage.reads, ...stage.writes }));
      const result: SimulationResult = simulate(stage, packet, { maps, meta: known, ...at });
      packet = Uint8Array.from(result.packet);
      meta = { ...meta, ...result.meta };
      const next: Name | undefined = onward[name]?.[result.exit ?? result.verdict];
      if (next === undefined) {
        const { verdict, exit, redirect } = result;
        return { stage: name, verdict, packet, ...(exit === undefined ? {} : { exit }), ...(redirect === undefined ? {} : { redirect }) };
      }
      name = next;
    }
  };
  return {
    at,
    stages,
    maps,
    leases,
    change,
    removeVip: (name: string) => change((before) => removeVip(before, name)),
    addVip: (options: VipOptions) => change((before) => addVip(before, options)),
    /** A process that starts with these vips over the same maps. */
    restart(vips: readonly VipOptions[]): void {
      const found = readTables(handles);
      writer = writerOver(found);
      change(() => adopted(vips.reduce<BalancerConfig>(addVip, empty), found));
    },
    /** Has a real fail its checks, or pass them again. */
    setWell(address: string, well: boolean): void {
      if (well) down.delete(address);
      else down.add(address);
      write();
    },
    /** A packet that comes in at XDP. */
    request: (frame: Packet | Uint8Array) => through('vip', frame),
    /** A packet that comes to the network stack. */
    arrive: (frame: Packet | Uint8Array) => through('reply', frame),
    /** A packet that the network stack sends. */
    leave: (frame: Packet | Uint8Array) => through('restore', frame),
    /** An answer of a real, all the way. */
    answer(frame: Packet | Uint8Array): NatOutcome {
      const arrived = through('reply', frame);
      return arrived.verdict === 'next' ? through('restore', arrived.packet) : arrived;
    },
  };
}
