/**
 * A layer 4 load balancer in three stages: `vip` finds the flow, `pick` its real, `encap` sends it there in IP in IP; the
 * real takes the outer header off (see the decap function) and answers the client directly.
 */
import { Clock } from '@tailrace/pipeline';
import { ArgumentError, defineFunction, ip } from '@tailrace/stage';
import { ContainerModule } from 'inversify';
import { addVip, type BalancerConfig, emptyConfig, type RealOptions, type VipOptions } from './config.ts';
import { BalancerController } from './controller.ts';
import { DEFAULT_MTU, encap, OUTER_BYTES } from './encap.ts';
import { HealthChecker, tcpHealth } from './health.ts';
import { NextHops, noNextHops } from './next-hop.ts';
import { pick } from './pick.ts';
import { balancerTables, type Capacity } from './tables.ts';
import { tooBig } from './too-big.ts';
import { vip } from './vip.ts';

export type { BalancerConfig, RealConfig, RealOptions, VipAddress, VipConfig, VipOptions } from './config.ts';
export { vipName } from './config.ts';
export {
  BalancerController,
  type BalancerNeeds,
  type RealStatus,
  type VipReference,
  type VipStatus,
  type VipTraffic,
} from './controller.ts';
export { checksumSeed, DEFAULT_MTU, encap, OUTER_BYTES } from './encap.ts';
export { type Connect, connectTcp, HealthChecker, type HealthTarget, riseAndFall, type TcpHealthOptions, tcpHealth } from './health.ts';
export type { BalancerHandles } from './map-writer.ts';
export { givenNextHops, type NeighbourEntry, type NextHop, NextHops, neighbourNextHops, noNextHops } from './next-hop.ts';
export { clientHash, pick } from './pick.ts';
export { type Observed, type PlannedReal, type PlannedVip, planBalancer, type RealCondition } from './plan.ts';
export { type BalancerTables, balancerTables, type Capacity, Real, RealState, Traffic, type VipTarget, vipKey } from './tables.ts';
export { TooBigMessage, tooBig } from './too-big.ts';
export { vip } from './vip.ts';

/** How to make a balancer. */
export interface L4lbOptions extends Capacity {
  /** The outer source address of what reals get, e.g. `10.0.0.1`: an address of the balancer, and none of a real's. */
  readonly source: string;
  /** Vips from the start. */
  readonly vips?: readonly VipOptions[];
  /** Reals of those vips that name none. */
  readonly reals?: readonly RealOptions[];
  /** The largest IP packet on the way to reals, 576..65535; default 1,500. */
  readonly mtu?: number;
}

/**
 * Declares a balancer with maps of its own. Its exit `notVip` stays open: wire it with `.on({ notVip: 'next' })`.
 *
 * What it does with odd packets: IP options are carried along; fragments to the address of a vip, malformed packets and
 * packets for a vip without reals are dropped, each counted at its exit (`fragment`, `malformed`, `noReal`); packets
 * larger than `mtu` with the outer header are answered with ICMP "fragmentation needed" where they must not be
 * fragmented, and dropped otherwise, behind the exit `tooBig`.
 *
 * Throws ArgumentError for options that make no sense.
 */
export function l4lb(options: L4lbOptions) {
  const { source, mtu = DEFAULT_MTU } = options;
  if (!Number.isInteger(mtu) || mtu < 576 || mtu > 65_535) throw new ArgumentError(`l4lb: mtu is ${mtu}, expected 576..65535`);
  const outerSource = ip(source);
  const config = initialConfig(options);
  const tables = balancerTables(options);
  const { vips, vipTraffic, ring, conns, reals, realTraffic } = tables;
  return defineFunction({
    name: 'l4lb',
    stages: {
      xdp: [
        vip.with({ vips, vipTraffic }).on({ fragment: 'drop', malformed: 'drop' }),
        pick.with({ conns, ring, reals }).on({ noReal: 'drop' }),
        encap.with({ reals, realTraffic, mtu }).on({ tooBig: tooBig.with({ fits: mtu - OUTER_BYTES }) }),
      ],
    },
    controller: {
      needs: { ...tables, health: HealthChecker, nextHops: NextHops, clock: Clock },
      create: (needs) => new BalancerController(needs, config, outerSource),
    },
    services: new ContainerModule(({ bind }) => {
      bind(HealthChecker).toConstantValue(tcpHealth());
      bind(NextHops).toConstantValue(noNextHops);
    }),
  });
}

/** Throws ArgumentError for vips and reals that cannot be, and sizes that the maps cannot have. */
function initialConfig(options: L4lbOptions): BalancerConfig {
  const { vips = [], reals = [], maxVips = 64, maxReals = 1_023, flowsPerCpu = 131_072 } = options;
  if (!Number.isInteger(maxVips) || maxVips < 1 || maxVips > 4_096)
    throw new ArgumentError(`l4lb: maxVips is ${maxVips}, expected 1..4096`);
  const most = 2 ** Math.ceil(Math.log2(flowsPerCpu / 8)) - 1;
  if (!Number.isInteger(maxReals) || maxReals < 1 || maxReals > Math.min(most, 65_535))
    throw new ArgumentError(`l4lb: maxReals is ${maxReals}, expected 1..${Math.min(most, 65_535)}`, {
      hint: 'more flowsPerCpu leave room for more reals',
    });
  return vips.reduce<BalancerConfig>((before, vip) => addVip(before, { reals, ...vip }), emptyConfig({ maxVips, maxReals }));
}
