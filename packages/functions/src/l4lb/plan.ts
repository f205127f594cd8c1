/** From what a balancer is told and what is observed to what its maps shall hold. Pure. */
import { withPort } from '../address.ts';
import type { RingMember } from '../structures/maglev.ts';
import type { BalancerConfig, RealConfig, VipConfig } from './config.ts';
import type { NextHop } from './next-hop.ts';

/** What is known about reals. */
export interface Observed {
  /** By `healthKey`; a target that was not checked yet is not there. */
  readonly health: ReadonlyMap<string, boolean>;
  /** By address, of reals without a next hop of their own; one that was never known is not there. */
  readonly hops: ReadonlyMap<string, NextHop | undefined>;
}

/**
 * How a real is: `active` gets new flows, `draining` keeps the flows that it has, `down` does not answer its checks,
 * `checking` was not checked yet, nor left up by another process, `unreachable` has no next hop. The last three get no packets.
 */
export type RealCondition = 'active' | 'draining' | 'down' | 'checking' | 'unreachable';

/** A vip with what its ring and its reals shall be. */
export interface PlannedVip {
  readonly vip: VipConfig;
  readonly members: readonly RingMember[];
  readonly reals: readonly PlannedReal[];
}

/** A real with what is known of it. */
export interface PlannedReal {
  readonly real: RealConfig;
  readonly condition: RealCondition;
  readonly hop: NextHop | undefined;
}

/** Says what each vip and real shall be. */
export function planBalancer(config: BalancerConfig, observed: Observed): readonly PlannedVip[] {
  return config.vips.map((vip) => {
    const reals = vip.reals.map((real): PlannedReal => {
      const hop = real.nextHop ?? (observed.hops.has(real.address) ? observed.hops.get(real.address) : real.left);
      const well = vip.healthPort === undefined ? true : (observed.health.get(healthKey(real.address, vip.healthPort)) ?? wasUp(real));
      return { real, hop, condition: conditionOf(real, hop, well) };
    });
    // a ring's slots go by address, so that balancers with the same reals agree
    const members = reals
      .filter(({ condition }) => condition === 'active')
      .map(({ real }): RingMember => ({ name: real.address, weight: real.weight, value: real.place }));
    return { vip, members, reals };
  });
}

/** True for reals that get packets. */
export function isUp(condition: RealCondition): boolean {
  return condition === 'active' || condition === 'draining';
}

/** The targets that must be checked, by `healthKey`. */
export function healthKeys(config: BalancerConfig): readonly string[] {
  return checkedReals(config).map(({ key }) => key);
}

/** Those of them that another process left well. */
export function wellKeys(config: BalancerConfig): ReadonlySet<string> {
  return new Set(checkedReals(config).flatMap(({ key, real }) => (wasUp(real) ? [key] : [])));
}

/** The addresses whose next hops must be asked for. */
export function hopKeys(config: BalancerConfig): readonly string[] {
  return config.vips.flatMap(({ reals }) => reals.filter(({ nextHop }) => nextHop === undefined).map(({ address }) => address));
}

/** `10.0.0.2:80`, `[2001:db8::2]:80`: vips with a real and a port in common share its checks. */
export function healthKey(address: string, port: number): string {
  return withPort(address, port);
}

/** From `healthKey`. */
export function healthTarget(key: string): { readonly address: string; readonly port: number } {
  const end = key.lastIndexOf(':');
  return { address: key.slice(0, end).replace(/^\[|\]$/g, ''), port: Number(key.slice(end + 1)) };
}

function checkedReals({ vips }: BalancerConfig): { readonly key: string; readonly real: RealConfig }[] {
  return vips.flatMap(({ healthPort, reals }) =>
    healthPort === undefined ? [] : reals.map((real) => ({ key: healthKey(real.address, healthPort), real })),
  );
}

/** True where another process left it up; otherwise nothing is known. */
function wasUp({ left }: RealConfig): true | undefined {
  return left && true;
}

function conditionOf(real: RealConfig, hop: NextHop | undefined, well: boolean | undefined): RealCondition {
  if (well === false) return 'down';
  if (well === undefined) return 'checking';
  if (hop === undefined) return 'unreachable';
  return real.drained || real.weight === 0 ? 'draining' : 'active';
}
