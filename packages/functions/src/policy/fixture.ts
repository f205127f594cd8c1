/** A policy over simulated maps, for tests: its stages one after the other, as the chains have them. */
// biome-ignore lint/style/noRestrictedImports: only tests import this file
import { type Packet, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import { VirtualTimeScheduler } from 'rxjs';
import { decide, flow, liveUntilFn, PolicyController, type PolicyEndpoint, related } from './index.ts';
import { defaultLimits, type FlowLimits, policyTables } from './tables.ts';

/** How a simulated policy is made. */
export interface SimulatedPolicyOptions {
  readonly limits?: Partial<FlowLimits>;
  readonly neighbours?: boolean;
  readonly strangers?: boolean;
  readonly audit?: boolean;
  readonly eventsPerSecond?: number;
  readonly maxFlows?: number;
  readonly maxEndpoints?: number;
  readonly maxRules?: number;
  readonly maxPeers?: number;
  readonly maxPorts?: number;
}

/** Time stands still unless a test moves `at.now`, in ns since boot; a packet `in` goes towards the endpoint. */
export function simulatedPolicy(endpoints: readonly PolicyEndpoint[] = [], options: SimulatedPolicyOptions = {}) {
  const { limits, neighbours = true, strangers = false, audit = false, eventsPerSecond = 100, ...capacity } = options;
  const { maxPeers = 1_000, maxPorts = 1_000, maxEndpoints = 8, maxRules = 64 } = capacity;
  const tables = policyTables({ ...capacity, maxPeers, maxPorts, maxEndpoints, maxRules });
  const maps = new SimulatedMaps();
  const at = { now: 1_000_000_000_000n };
  const clock = new VirtualTimeScheduler();
  clock.now = () => Number(at.now) / 1e6;
  const grace = { wait: (): Promise<void> => Promise.resolve() };
  const handles = {
    flows: simulatedHandle(maps, tables.flows),
    pieces: simulatedHandle(maps, tables.pieces),
    endpoints4: simulatedHandle(maps, tables.endpoints4),
    endpoints6: simulatedHandle(maps, tables.endpoints6),
    scopes: simulatedHandle(maps, tables.scopes),
    peers4: simulatedHandle(maps, tables.peers4),
    peers6: simulatedHandle(maps, tables.peers6),
    ports: simulatedHandle(maps, tables.ports),
    hits: simulatedHandle(maps, tables.hits),
    denials: simulatedHandle(maps, tables.denials),
    budget: simulatedHandle(maps, tables.budget),
    denied: simulatedHandle(maps, tables.denied),
  };
  const needs = { ...handles, gracePeriod: () => grace.wait(), clock, bootClock: () => at.now };
  /** A controller as a process has it that starts with these endpoints. */
  const start = (next: readonly PolicyEndpoint[], changed: Partial<typeof needs> = {}) =>
    new PolicyController({ ...needs, ...changed }, { maxPeers, maxPorts }, next);
  const controller = start(endpoints);
  const liveUntil = liveUntilFn({ ...defaultLimits, ...limits });
  const { flows, pieces, hits } = tables;
  const stagesOf = (inbound: boolean) => {
    const { endpoints4, endpoints6, scopes, peers4, peers6, ports, denials, budget, denied } = tables;
    return {
      flow: flow.with({ flows, pieces, hits, liveUntil, inbound, neighbours }),
      related: related.with({ flows, liveUntil, inbound }),
      decide: decide.with({
        ...{ flows, pieces, hits, endpoints4, endpoints6, scopes, peers4, peers6, ports, denials, budget, denied },
        ...{ inbound, audit, strangers, eventsPerSecond },
      }),
    };
  };
  const stages = { in: stagesOf(true), out: stagesOf(false) };
  /** What becomes of a packet: `next`, `denied` or `audit`. */
  const send = (direction: 'in' | 'out', frame: Packet | Uint8Array, segments = 1): string => {
    const common = { maps, now: at.now, skb: { gsoSegments: segments } };
    const first = simulate(stages[direction].flow, frame, common);
    const meta =
      first.exit === 'icmpError'
        ? {
            ...first.meta,
            ...simulate(stages[direction].related, frame, { ...common, meta: { policyDecision: first.meta.policyDecision } }).meta,
          }
        : first.meta;
    const last = simulate(stages[direction].decide, frame, { ...common, meta });
    return last.exit ?? last.verdict;
  };
  return { controller, start, needs, maps, at, grace, send, tables, stages };
}
