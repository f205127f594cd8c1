/**
 * Who may talk to whom: `policy({ endpoints })` at TC ingress and TC egress denies what no rule lets in, and lets the
 * answers of flows through that a rule let start.
 */
import { Clock, GracePeriod } from '@tailrace/pipeline';
import { ArgumentError, defineFunction } from '@tailrace/stage';
import { ContainerModule } from 'inversify';
import { BootClock, systemBootClock } from '../boot-clock.ts';
import { PolicyController, type PolicyNeeds } from './controller.ts';
import { decide } from './decide.ts';
import { flow } from './flow.ts';
import { related } from './related.ts';
import { type PolicyEndpoint, parseEndpoint } from './rule.ts';
import { defaultLimits, type FlowLimits, liveUntilFn, type PolicyCapacity, policyTables } from './tables.ts';

export { BootClock, systemBootClock } from '../boot-clock.ts';
export {
  type DenialReason,
  type Denials,
  type DeniedPacket,
  PolicyController,
  type PolicyFlow,
  type PolicyNeeds,
  type RuleTraffic,
} from './controller.ts';
export { decide } from './decide.ts';
export { flow } from './flow.ts';
export { related } from './related.ts';
export type { PolicyDirection, PolicyEndpoint, PolicyPorts, PolicyProtocol, PolicyRule } from './rule.ts';
export type { RuleLimits, RuleMaps } from './rule-writer.ts';
export {
  Decision,
  DeniedEvent,
  defaultLimits,
  Flow,
  FlowKey,
  type FlowLimits,
  liveUntilFn,
  type PolicyCapacity,
  packetMetadata,
  policyTables,
  Reason,
} from './tables.ts';

/** How long flows are let through behind their last packet, in ms. */
export type FlowTimeoutsMs = { readonly [K in keyof FlowLimits as `${K}Ms`]?: number };

/** How to make a policy. */
export interface PolicyOptions extends PolicyCapacity {
  /** Endpoints from the start. */
  readonly endpoints?: readonly PolicyEndpoint[];
  /**
   * Where the endpoints are. `host`, the default: on the machine that the pipeline runs on, at its own interface, so that TC
   * ingress is towards them. `peer`: behind the interface, a container behind a veth say, so that TC egress is.
   */
  readonly side?: 'host' | 'peer';
  /** Deny nothing: what would be denied is counted and told as if it was, and leaves through the exit `audit`. Default false. */
  readonly audit?: boolean;
  /**
   * Lets ARP, neighbour discovery and multicast listener reports pass, without which nobody finds anybody; default true.
   * False denies ARP, and leaves the others to the rules.
   */
  readonly neighbours?: boolean;
  /** Packets to and from addresses of no endpoint: `deny`, the default, or `pass`. */
  readonly strangers?: 'deny' | 'pass';
  /** Default: TCP 7,440,000, UDP 180,000, ICMP 60,000, others 600,000; 60,000 before they are answered, 30,000 once they are closed. */
  readonly timeouts?: FlowTimeoutsMs;
  /** Events that each CPU sends in about a second, 0..1,000,000; default 100. */
  readonly eventsPerSecond?: number;
}

/**
 * Declares a policy with maps of its own, for TC ingress and TC egress; both chains need it. What is denied leaves through
 * the exit `denied`, which stays open: wire it with `.on({ denied: 'drop' })`. With `audit: true` it is the exit `audit`,
 * and `.on({ audit: 'pass' })`.
 *
 * A rule lets flows start; their packets in both directions pass, and so do ICMP errors about them. TCP starts with a SYN,
 * so connections from before the policy are cut. Later pieces of fragmented packets follow the first one, where that came
 * before them. New flows cost three longest-prefix lookups, whatever the number of rules; packets of known flows one hash.
 *
 * Throws ArgumentError for options that make no sense.
 */
export function policy(options: PolicyOptions & { readonly audit: true }): ReturnType<typeof auditingPolicy>;
export function policy(options?: PolicyOptions & { readonly audit?: false }): ReturnType<typeof denyingPolicy>;
export function policy(options: PolicyOptions = {}) {
  return options.audit === true ? auditingPolicy(options) : denyingPolicy(options);
}

function denyingPolicy(options: PolicyOptions) {
  const { ingress, egress, controller, services } = partsOf(options);
  return defineFunction({
    name: 'policy',
    stages: {
      tcIngress: [ingress.flow, ingress.decide.on({ audit: 'drop' })],
      tcEgress: [egress.flow, egress.decide.on({ audit: 'drop' })],
    },
    controller,
    services,
  });
}

function auditingPolicy(options: PolicyOptions) {
  const { ingress, egress, controller, services } = partsOf(options);
  return defineFunction({
    name: 'policy',
    stages: {
      tcIngress: [ingress.flow, ingress.decide.on({ denied: 'drop' })],
      tcEgress: [egress.flow, egress.decide.on({ denied: 'drop' })],
    },
    controller,
    services,
  });
}

function partsOf(options: PolicyOptions) {
  const { endpoints = [], side = 'host', audit = false, neighbours = true, strangers = 'deny', eventsPerSecond = 100 } = options;
  if (side !== 'host' && side !== 'peer') throw new ArgumentError(`policy: side is '${String(side)}', expected 'host' or 'peer'`);
  if (strangers !== 'deny' && strangers !== 'pass')
    throw new ArgumentError(`policy: strangers is '${String(strangers)}', expected 'deny' or 'pass'`);
  checkCount('eventsPerSecond', eventsPerSecond, 0, 1_000_000);
  const { maxPeers = 65_536, maxPorts = 65_536, maxEndpoints = 256, maxRules = 4_096, maxFlows = 65_536 } = options;
  checkCount('maxEndpoints', maxEndpoints, 1, 65_535);
  for (const [name, value] of Object.entries({ maxPeers, maxPorts, maxRules, maxFlows })) checkCount(name, value, 1, 2 ** 24);
  // so that mistakes are told where they are made
  for (const endpoint of endpoints) parseEndpoint(endpoint);
  const tables = policyTables({ maxPeers, maxPorts, maxEndpoints, maxRules, maxFlows });
  const { flows, pieces, hits, endpoints4, endpoints6, scopes, peers4, peers6, ports, denials, budget, denied } = tables;
  const liveUntil = liveUntilFn(limitsOf(options.timeouts));
  const stagesAt = (inbound: boolean) => ({
    flow: flow
      .with({ flows, pieces, hits, liveUntil, inbound, neighbours })
      .on({ icmpError: [related.with({ flows, liveUntil, inbound }), 'next'] }),
    decide: decide.with({
      ...{ flows, pieces, hits, endpoints4, endpoints6, scopes, peers4, peers6, ports, denials, budget, denied },
      ...{ inbound, audit, strangers: strangers === 'pass', eventsPerSecond },
    }),
  });
  return {
    ingress: stagesAt(side === 'host'),
    egress: stagesAt(side === 'peer'),
    controller: {
      needs: { ...tables, gracePeriod: GracePeriod, clock: Clock, bootClock: BootClock },
      create: (needs: PolicyNeeds) => new PolicyController(needs, { maxPeers, maxPorts }, endpoints),
    },
    services: new ContainerModule(({ bind }) => {
      bind(BootClock).toConstantValue(systemBootClock);
    }),
  };
}

function limitsOf(timeouts: FlowTimeoutsMs = {}): FlowLimits {
  const limit = (name: keyof FlowLimits): bigint => {
    const ms = timeouts[`${name}Ms`];
    if (ms === undefined) return defaultLimits[name];
    checkCount(`timeouts.${name}Ms`, ms, 1, 2 ** 40);
    return BigInt(ms) * 1_000_000n;
  };
  return {
    tcp: limit('tcp'),
    udp: limit('udp'),
    icmp: limit('icmp'),
    other: limit('other'),
    opening: limit('opening'),
    closing: limit('closing'),
  };
}

function checkCount(name: string, value: number, least: number, most: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw new ArgumentError(`policy: ${name} is ${value}, expected ${least}..${most}`);
}
