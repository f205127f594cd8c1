/** Makes the maps what a plan says, writing only what differs, in an order that no packet falls through. */
import { type HandleOf, type Infer, macAddress } from '@tailrace/stage';
import { formatAddress, parseIp } from '../address.ts';
import { maglevTable, slotsByValue } from '../structures/maglev.ts';
import type { WideKey } from '../structures/mix.ts';
import { type BalancerLimits, outerBytes } from './config.ts';
import { checksumSeed } from './encap.ts';
import { type NatHandles, NatWriter } from './nat/writer.ts';
import { isUp, type PlannedReal, type PlannedVip } from './plan.ts';
import { type BalancerTables, type Real, type Real6, RealState, vipKey, vipKey6 } from './tables.ts';

/** The handles of a balancer's maps. */
export type BalancerHandles = { readonly [K in keyof BalancerTables]: HandleOf<BalancerTables[K]> };

type RealValue = Infer<typeof Real>;
type Real6Value = Infer<typeof Real6>;

/** An entry of a table of vips. */
type VipEntry =
  | { readonly family: 4; readonly key: bigint; readonly value: number }
  | { readonly family: 6; readonly key: WideKey; readonly value: number };

const nowhere: Real6Value = { address: { hi: 0n, lo: 0n }, source: { hi: 0n, lo: 0n }, fits: 0 };

/** Writes plans. */
export class MapWriter {
  readonly #maps: BalancerHandles;
  readonly #nat: NatWriter | undefined;
  readonly #limits: BalancerLimits;
  readonly #vips = new Map<string, VipEntry>();
  readonly #reals = new Map<number, RealValue>();
  readonly #reals6 = new Map<number, Real6Value>();
  readonly #rings = new Map<number, { readonly members: string; readonly slots: ReadonlyMap<number, number> }>();
  /** Who had a number last: flows of another must be forgotten before it is used again. */
  readonly #vipOf = new Map<number, string>();
  readonly #realOf = new Map<number, string>();

  /** With the maps of full NAT where the balancer has them. */
  constructor(maps: BalancerHandles & { readonly nat?: NatHandles }, limits: BalancerLimits) {
    this.#maps = maps;
    this.#nat = maps.nat && new NatWriter(maps.nat);
    this.#limits = limits;
  }

  /**
   * Vips that go first; then reals that are up, before any ring names them; then rings; then reals that are down, which
   * no ring names any more; new vips last. Throws what the handles throw.
   */
  write(plan: readonly PlannedVip[]): void {
    const vips = vipEntries(plan);
    for (const [name, entry] of this.#vips) {
      if (vips.has(name)) continue;
      if (entry.family === 4) this.#maps.vips.delete(entry.key);
      else this.#maps.vips6.delete(entry.key);
      this.#vips.delete(name);
    }
    this.#reuse(plan);
    this.#writeReals6(plan.flatMap(({ reals }) => reals.map((real) => [real.real.place, this.#real6Entry(real)])));
    const reals = this.#realEntries(plan);
    this.#writeReals(reals.filter(([, value]) => value.state === RealState.up));
    for (const { vip, members } of plan) this.#writeRing(vip.index, members);
    this.#writeReals(reals.filter(([, value]) => value.state === RealState.down));
    this.#nat?.write(plan);
    for (const [name, entry] of vips) {
      if (this.#vips.has(name)) continue;
      if (entry.family === 4) this.#maps.vips.set(entry.key, entry.value);
      else this.#maps.vips6.set(entry.key, entry.value);
      this.#vips.set(name, entry);
    }
  }

  /** Slots of a vip's ring, by the place of the real that has them. */
  slots(index: number): ReadonlyMap<number, number> {
    return this.#rings.get(index)?.slots ?? new Map();
  }

  /** Wipes what hangs on numbers that have new owners: flows, and counters. */
  #reuse(plan: readonly PlannedVip[]): void {
    const indices = newOwners(
      this.#vipOf,
      plan.map(({ vip }) => [vip.index, vip.name]),
    );
    const places = newOwners(
      this.#realOf,
      plan.flatMap(({ vip, reals }) => reals.map(({ real }) => [real.place, `${vip.name} ${real.address}`])),
    );
    if (indices.used.size + places.used.size > 0) {
      this.#maps.conns.forget(({ key, value }) => places.used.has(value) || indices.used.has(Number(key & 0xffffn)));
      this.#maps.conns6.forget(({ key, value }) => places.used.has(value) || indices.used.has(Number(key.low & 0xffffn)));
      this.#nat?.forget(indices.used);
    }
    for (const [counters, owners] of [
      [this.#maps.vipTraffic, indices],
      [this.#maps.realTraffic, places],
    ] as const)
      counters.setMany([...owners.used].map((number) => [number, (counters.get(number) ?? []).map(() => ({ packets: 0n, bytes: 0n }))]));
  }

  #realEntries(plan: readonly PlannedVip[]): [place: number, value: RealValue][] {
    const planned = plan.flatMap(({ reals }) => reals.map((real): [number, RealValue] => [real.real.place, this.#realEntry(real)]));
    const wanted = new Set(planned.map(([place]) => place));
    const gone = [...this.#reals].filter(([place]) => !wanted.has(place));
    return [...planned, ...gone.map(([place, value]): [number, RealValue] => [place, { ...value, state: RealState.down }])];
  }

  #realEntry({ real, hop, condition }: PlannedReal): RealValue {
    const { mtu, sources } = this.#limits;
    const address = parseIp(real.address);
    const addresses = { address: address.family === 4 ? address.value : 0, source: address.family === 4 ? (sources.ipv4 ?? 0) : 0 };
    return {
      ...addresses,
      hop: hop === undefined ? 0 : macAddress(hop.mac),
      own: hop?.egress === undefined ? 0 : macAddress(hop.egress.mac),
      state: isUp(condition) ? RealState.up : RealState.down,
      seed: checksumSeed(addresses),
      ifindex: hop?.egress?.ifindex ?? 0,
      fits: address.family === 4 ? mtu - outerBytes(4) : 0,
    };
  }

  #real6Entry({ real }: PlannedReal): Real6Value {
    const { mtu, sources } = this.#limits;
    const address = parseIp(real.address);
    if (address.family === 4 || sources.ipv6 === undefined) return nowhere;
    return { address: { ...address.value }, source: { ...sources.ipv6 }, fits: mtu - outerBytes(6) };
  }

  /** Before the reals themselves: they are not up yet under these numbers. */
  #writeReals6(entries: readonly [place: number, value: Real6Value][]): void {
    const changed = entries.filter(([place, value]) => !sameReal6(this.#reals6.get(place) ?? nowhere, value));
    if (changed.length === 0) return;
    this.#maps.reals6.setMany(changed);
    for (const [place, value] of changed) this.#reals6.set(place, value);
  }

  #writeReals(entries: readonly [place: number, value: RealValue][]): void {
    const changed = entries.filter(([place, value]) => !sameReal(this.#reals.get(place), value));
    if (changed.length === 0) return;
    this.#maps.reals.setMany(changed);
    for (const [place, value] of changed) this.#reals.set(place, value);
  }

  #writeRing(index: number, members: PlannedVip['members']): void {
    const text = JSON.stringify(members);
    if (this.#rings.get(index)?.members === text) return;
    const table = maglevTable(members);
    this.#maps.ring.set(index, table);
    this.#rings.set(index, { members: text, slots: slotsByValue(table) });
  }
}

/** The entries of the tables of vips: one for each vip, one for each address. */
function vipEntries(plan: readonly PlannedVip[]): Map<string, VipEntry> {
  const entries = plan.flatMap(({ vip: { name, address, port, protocol, index } }) => {
    const entry = (port: number, protocol: number, value: number): VipEntry =>
      address.family === 4
        ? { family: 4, key: vipKey({ address: address.value, port, protocol }), value }
        : { family: 6, key: vipKey6({ address: address.value, port, protocol }), value };
    return [
      [`address ${formatAddress(address)}`, entry(0, 0, 1)] as const,
      [`${name} ${index}`, entry(port, protocol, index + 1)] as const,
    ];
  });
  return new Map(entries);
}

/** Numbers that somebody else had before; remembers the new owners. */
function newOwners(
  owners: Map<number, string>,
  now: readonly (readonly [number: number, owner: string])[],
): { readonly used: ReadonlySet<number> } {
  const used = new Set<number>();
  for (const [number, owner] of now) {
    const before = owners.get(number);
    if (before !== undefined && before !== owner) used.add(number);
    owners.set(number, owner);
  }
  return { used };
}

function sameReal(a: RealValue | undefined, b: RealValue): boolean {
  return a !== undefined && JSON.stringify(a) === JSON.stringify(b);
}

function sameReal6(a: Real6Value, b: Real6Value): boolean {
  return sameHalves(a.address, b.address) && sameHalves(a.source, b.source) && a.fits === b.fits;
}

function sameHalves(a: Real6Value['address'], b: Real6Value['address']): boolean {
  return a.hi === b.hi && a.lo === b.lo;
}
