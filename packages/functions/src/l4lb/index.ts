/**
 * A layer 4 load balancer in three stages: `vip` finds the flow, `pick` its real, `encap` sends it there in IP in IP; the
 * real takes the outer header off (see the decap function) and answers the client directly. IPv6 has its own `pick6`, and
 * `encap6` and `encap6in4` serve the other combinations of packet and real; `echo` and `icmpError` stand beside the way.
 */
import { Clock } from '@tailrace/pipeline';
import { ArgumentError, defineFunction } from '@tailrace/stage';
import { ContainerModule } from 'inversify';
import type { SchedulerLike } from 'rxjs';
import {
  addVip,
  type BalancerConfig,
  type BalancerLimits,
  emptyConfig,
  parseSources,
  type RealOptions,
  type VipOptions,
} from './config.ts';
import { BalancerController } from './controller.ts';
import { echo } from './echo.ts';
import { DEFAULT_MTU, encap } from './encap.ts';
import { encapTagged } from './encap-tagged.ts';
import { encap6 } from './encap6.ts';
import { encap6in4 } from './encap6in4.ts';
import { HealthChecker, tcpHealth } from './health.ts';
import { icmpError } from './icmp-error.ts';
import type { PortRange } from './nat/leases.ts';
import { reply } from './nat/reply.ts';
import { replyError } from './nat/reply-error.ts';
import { restore } from './nat/restore.ts';
import { restoreError } from './nat/restore-error.ts';
import { send } from './nat/send.ts';
import { NAT_PORTS, natTables } from './nat/tables.ts';
import { translate } from './nat/translate.ts';
import { translateError } from './nat/translate-error.ts';
import { NextHops, noNextHops } from './next-hop.ts';
import { pick } from './pick.ts';
import { pick6 } from './pick6.ts';
import { balancerTables, type Capacity } from './tables.ts';
import { tooBig } from './too-big.ts';
import { tooBig6 } from './too-big6.ts';
import { vip } from './vip.ts';

export type { IpAddress, IpFamily } from '../address.ts';
export type {
  BalancerConfig,
  BalancerLimits,
  BalancerMode,
  RealConfig,
  RealOptions,
  Sources,
  VipAddress,
  VipConfig,
  VipOptions,
} from './config.ts';
export { vipName } from './config.ts';
export {
  BalancerController,
  type BalancerNeeds,
  type RealStatus,
  type VipReference,
  type VipStatus,
  type VipTraffic,
} from './controller.ts';
export { echo } from './echo.ts';
export { checksumSeed, DEFAULT_MTU, encap, OUTER_BYTES, OUTER_BYTES6 } from './encap.ts';
export { encapTagged } from './encap-tagged.ts';
export { encap6 } from './encap6.ts';
export { encap6in4 } from './encap6in4.ts';
export { type Connect, connectTcp, HealthChecker, type HealthTarget, riseAndFall, type TcpHealthOptions, tcpHealth } from './health.ts';
export { icmpError } from './icmp-error.ts';
export {
  Answer,
  Keep,
  Lease,
  PORT_TRIES,
  type PortLeases,
  type PortLeasesHandle,
  type PortLeasesOps,
  type PortLeasesOptions,
  type PortRange,
  portLeases,
} from './nat/leases.ts';
export { reply } from './nat/reply.ts';
export { replyError } from './nat/reply-error.ts';
export { restore } from './nat/restore.ts';
export { restoreError } from './nat/restore-error.ts';
export { send } from './nat/send.ts';
export { NAT_PORTS, type NatTables, NatVip, natTables } from './nat/tables.ts';
export { translate } from './nat/translate.ts';
export { translateError } from './nat/translate-error.ts';
export type { NatHandles } from './nat/writer.ts';
export { givenNextHops, type NeighbourEntry, type NextHop, NextHops, neighbourNextHops, noNextHops } from './next-hop.ts';
export { clientHash, pick } from './pick.ts';
export { clientHash6, pick6 } from './pick6.ts';
export { type Observed, type PlannedReal, type PlannedVip, planBalancer, type RealCondition } from './plan.ts';
export {
  type BalancerHandles,
  type BalancerTables,
  balancerTables,
  type Capacity,
  Real,
  Real6,
  RealState,
  Traffic,
  type VipTarget,
  vipKey,
  vipKey6,
} from './tables.ts';
export { TooBigMessage, tooBig } from './too-big.ts';
export { TooBigMessage6, tooBig6 } from './too-big6.ts';
export { vip } from './vip.ts';

/** How to make a balancer, whatever way its packets go. */
interface BalancerOptions extends Capacity {
  /** Vips from the start. */
  readonly vips?: readonly VipOptions[];
  /** Reals of those vips that name none. */
  readonly reals?: readonly RealOptions[];
  /** Answers ICMP echo requests to the vips; default true. False leaves them to the network stack. */
  readonly echo?: boolean;
}

/** How to make a balancer whose reals get packets in an outer header and answer clients directly. */
export interface L4lbOptions extends BalancerOptions {
  readonly mode?: 'tunnel';
  /**
   * The outer source address of what reals get, e.g. `10.0.0.1`: an address of the balancer, and none of a real's. One for
   * each family that reals have: `{ ipv4: '10.0.0.1', ipv6: '2001:db8::1' }`.
   */
  readonly source: string | { readonly ipv4?: string; readonly ipv6?: string };
  /** The largest IP packet on the way to reals, 576..65535, and at least 1,320 where IPv6 goes in IPv6; default 1,500. */
  readonly mtu?: number;
}

/** How to make a balancer that rewrites addresses both ways: reals see it as their client and need nothing of their own. */
export interface L4lbNatOptions extends BalancerOptions {
  readonly mode: 'nat';
  /** The address that reals answer to, e.g. `10.0.0.1`: one of this machine, that they reach over it. IPv4. */
  readonly source: string;
  /** Ports of that address which stand for flows; default 1024..32767, below those that Linux gives to sockets. */
  readonly ports?: PortRange;
  /** Flows at a time, 1..4,194,304; default 65,536. The one that was not used for longest makes room for a new one. */
  readonly natFlows?: number;
}

/**
 * Declares a balancer with maps of its own. Its exit `notVip` stays open: wire it with `.on({ notVip: 'next' })`.
 *
 * What it does with odd packets: IP options are carried along; fragments to the address of a vip, malformed packets and
 * packets for a vip without reals are dropped, each counted at its exit (`fragment`, `malformed`, `noReal`); packets
 * larger than `mtu` with the outer header are answered with ICMP "fragmentation needed" where they must not be
 * fragmented, and dropped otherwise, behind the exit `tooBig`; those of IPv6 with "packet too big", behind `tooBig6`. Echo
 * requests to a vip's address are answered; ICMP errors about a flow go to its real, others to the network stack. Frames
 * with VLAN tags keep them where they go back out of their interface, and lose them on the way out of another.
 *
 * With `mode: 'nat'` it stands in three chains. At XDP requests get the balancer's address and a port of its own as source
 * and go to their real; answers come back to that address, where TC ingress gives them the client's as destination, the
 * network stack routes them (forwarding must be on), and TC egress gives them the vip's as source. IPv4 only; a new flow
 * that finds no port free is dropped behind the exit `noPort`; ICMP errors are left to the network stack.
 *
 * Throws ArgumentError for options that make no sense.
 */
export function l4lb(options: L4lbOptions): ReturnType<typeof tunnelBalancer>;
export function l4lb(options: L4lbNatOptions): ReturnType<typeof natBalancer>;
export function l4lb(options: L4lbOptions | L4lbNatOptions) {
  return options.mode === 'nat' ? natBalancer(options) : tunnelBalancer(options);
}

function tunnelBalancer(options: L4lbOptions) {
  const { mtu = DEFAULT_MTU, echo: answersEcho = true } = options;
  if (!Number.isInteger(mtu) || mtu < 576 || mtu > 65_535) throw new ArgumentError(`l4lb: mtu is ${mtu}, expected 576..65535`);
  const config = initialConfig(options, { mode: 'tunnel', mtu, sources: parseSources(options.source) });
  const tables = balancerTables(options);
  const { vips, vips6, vipTraffic, ring, conns, conns6, reals, reals6, realTraffic } = tables;
  const tagged = encapTagged.with({ reals, reals6, realTraffic }).on({ tooBig, tooBig6 });
  const in4 = encap6in4.with({ reals, realTraffic }).on({ tooBig6, tagged });
  const in6 = encap6.with({ reals, reals6, realTraffic }).on({ tooBig, tooBig6, over4: in4, tagged });
  const ipv6 = [pick6.with({ conns6, ring, reals }).on({ noReal: 'drop' }), in6] as const;
  const errors = icmpError.with({ vips, vips6, vipTraffic }).on({ ipv6, noFlow: 'pass' });
  return defineFunction({
    name: 'l4lb',
    stages: {
      xdp: [
        vip
          .with({ vips, vips6, vipTraffic })
          .on({ fragment: 'drop', malformed: 'drop', ipv6, echo: answersEcho ? echo : 'pass', icmpError: [errors, 'next'] }),
        pick.with({ conns, ring, reals }).on({ noReal: 'drop' }),
        encap.with({ reals, realTraffic }).on({ tooBig, over6: in6, tagged }),
      ],
    },
    controller: {
      needs: { ...tables, health: HealthChecker, nextHops: NextHops, clock: Clock },
      create: (needs) => new BalancerController(needs, config),
    },
    services: defaultServices(),
  });
}

function natBalancer(options: L4lbNatOptions) {
  const { echo: answersEcho = true, maxVips = 64, natFlows = 65_536, ports = NAT_PORTS } = options;
  const sources = parseSources(options.source);
  const { ipv4: source } = sources;
  if (source === undefined) throw new ArgumentError(`l4lb: source is '${options.source}', expected an IPv4 address with NAT`);
  const config = initialConfig(options, { mode: 'nat', mtu: DEFAULT_MTU, sources, natPorts: ports });
  const tables = balancerTables(options);
  const nat = natTables({ maxVips, maxFlows: natFlows, ports });
  const { vips, vips6, vipTraffic, ring, conns, reals, realTraffic } = tables;
  const { leases } = nat;
  const sent = send.with({ reals });
  const error = translateError.with({ reals, realTraffic, ...nat, source });
  const errors = icmpError.with({ vips, vips6, vipTraffic }).on({ ipv6: 'pass', noFlow: 'pass' });
  return defineFunction({
    name: 'l4lb',
    stages: {
      xdp: [
        vip
          .with({ vips, vips6, vipTraffic })
          .on({ fragment: 'drop', malformed: 'drop', ipv6: 'pass', echo: answersEcho ? echo : 'pass', icmpError: [errors, 'next'] }),
        pick.with({ conns, ring, reals }).on({ noReal: 'drop' }),
        translate.with({ reals, realTraffic, ...nat, source }).on({ noPort: 'drop', icmp: [error, sent], tagged: sent }),
      ],
      tcIngress: [reply.with({ leases, source, ports }).on({ fragment: 'drop', icmp: [replyError.with({ ...nat, source }), 'next'] })],
      tcEgress: [restore.with({ ...nat, ports }).on({ icmp: [restoreError.with({ leases, source }), 'next'] })],
    },
    controller: {
      needs: { ...tables, ...nat, health: HealthChecker, nextHops: NextHops, clock: Clock },
      create: ({ leases, natVips, ...needs }) => new BalancerController({ ...needs, nat: { leases, natVips } }, config),
    },
    services: defaultServices(),
  });
}

function defaultServices(): ContainerModule {
  return new ContainerModule(({ bind }) => {
    bind(HealthChecker).toResolvedValue((scheduler: SchedulerLike) => tcpHealth({ scheduler }), [Clock]);
    bind(NextHops).toConstantValue(noNextHops);
  });
}

/** Throws ArgumentError for vips and reals that cannot be, and sizes that the maps cannot have. */
function initialConfig(options: BalancerOptions, fixed: Omit<BalancerLimits, 'maxVips' | 'maxReals'>): BalancerConfig {
  const { vips = [], reals = [], maxVips = 64, maxReals = 1_023, flowsPerCpu = 131_072 } = options;
  if (!Number.isInteger(maxVips) || maxVips < 1 || maxVips > 4_096)
    throw new ArgumentError(`l4lb: maxVips is ${maxVips}, expected 1..4096`);
  const most = 2 ** Math.ceil(Math.log2(flowsPerCpu / 8)) - 1;
  if (!Number.isInteger(maxReals) || maxReals < 1 || maxReals > Math.min(most, 65_535))
    throw new ArgumentError(`l4lb: maxReals is ${maxReals}, expected 1..${Math.min(most, 65_535)}`, {
      hint: 'more flowsPerCpu leave room for more reals',
    });
  const empty = emptyConfig({ maxVips, maxReals, ...fixed });
  return vips.reduce<BalancerConfig>((before, vip) => addVip(before, { reals, ...vip }), empty);
}
