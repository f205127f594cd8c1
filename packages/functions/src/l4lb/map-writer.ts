/** Makes the maps what a plan says, writing only what differs, in an order that no packet falls through. */
import { type Infer, macAddress } from '@tailrace/stage';
import { parseIp } from '../address.ts';
import { maglevTable, slotsByValue } from '../structures/maglev.ts';
import { type BalancerLimits, outerBytes } from './config.ts';
import { checksumSeed } from './encap.ts';
import { type FoundTables, nowhere, ownerOf, type VipEntry } from './found.ts';
import { type NatHandles, NatWriter } from './nat/writer.ts';
import { isUp, type PlannedReal, type PlannedVip } from './plan.ts';
import { type BalancerHandles, type Real, type Real6, RealState, vipKey, vipKey6 } from './tables.ts';

type RealValue = Infer<typeof Real>;
type Real6Value = Infer<typeof Real6>;

/** Numbers of vips and reals. */
interface Numbers {
  readonly indices: ReadonlySet<number>;
  readonly places: ReadonlySet<number>;
}

/** Had a number that another process gave out: nobody who is here now. */
const GONE = '';

/** Writes plans. */
export class MapWriter {
  readonly #maps: BalancerHandles;
  readonly #nat: NatWriter | undefined;
  readonly #limits: BalancerLimits;
  readonly #vips: Map<string, VipEntry>;
  readonly #reals: Map<number, RealValue>;
  readonly #reals6: Map<number, Real6Value>;
  readonly #rings: Map<number, { readonly members: string; readonly slots: ReadonlyMap<number, number> }>;
  /** Who had a number last: flows of another must be forgotten before it is used again. */
  readonly #vipOf: Map<number, string>;
  readonly #realOf: Map<number, string>;

  /** With the maps of full NAT where the balancer has them, and with what is in the maps. */
  constructor(maps: BalancerHandles & { readonly nat?: NatHandles }, limits: BalancerLimits, found: FoundTables) {
    this.#maps = maps;
    this.#nat = maps.nat && new NatWriter(maps.nat);
    this.#limits = limits;
    this.#vips = new Map(found.entries.map((entry) => [nameOf(entry), entry]));
    this.#vipOf = new Map([
      ...[...found.worn].map((index) => [index, GONE] as const),
      ...[...found.indices].map(([name, index]) => [index, name] as const),
    ]);
    this.#reals = new Map(found.reals.map(({ place, value }) => [place, value]));
    this.#reals6 = new Map(found.reals.map(({ place, value6 }) => [place, value6]));
    this.#realOf = new Map(found.reals.map(({ place, owner = GONE }) => [place, owner]));
    this.#rings = new Map([...found.indices.values()].map((index) => [index, { members: '', slots: slotsByValue(maps.ring.get(index)) }]));
  }

  /** Vips that go first; then those who have the numbers of others; then the rest. Throws what the handles throw. */
  write(plan: readonly PlannedVip[]): void {
    const vips = new Set(vipEntries(plan).map(nameOf));
    for (const [name, entry] of this.#vips) {
      if (vips.has(name)) continue;
      if (entry.family === 4) this.#maps.vips.delete(entry.key);
      else this.#maps.vips6.delete(entry.key);
      this.#vips.delete(name);
    }
    const indices = newOwners(
      this.#vipOf,
      plan.map(({ vip }) => [vip.index, vip.name]),
    );
    const places = newOwners(
      this.#realOf,
      plan.flatMap(({ vip, reals }) => reals.map(({ real }) => [real.place, ownerOf(vip.name, real.address)])),
    );
    if (indices.size + places.size > 0) {
      this.#settle(without(plan, { indices, places }));
      this.#reuse({ indices, places });
    }
    this.#settle(plan);
  }

  /** Slots of a vip's ring, by the place of the real that has them. */
  slots(index: number): ReadonlyMap<number, number> {
    return this.#rings.get(index)?.slots ?? new Map();
  }

  /** Reals that are up, before any ring names them; then rings; then reals that are down, which no ring names any more; new vips last. */
  #settle(plan: readonly PlannedVip[]): void {
    this.#writeReals6(plan.flatMap(({ reals }) => reals.map((real) => [real.real.place, this.#real6Entry(real)])));
    const reals = this.#realEntries(plan);
    this.#writeReals(reals.filter(([, value]) => value.state === RealState.up));
    for (const { vip, members } of plan) this.#writeRing(vip.index, members);
    this.#writeReals(reals.filter(([, value]) => value.state === RealState.down));
    this.#nat?.write(plan);
    for (const entry of vipEntries(plan)) {
      const name = nameOf(entry);
      if (this.#vips.get(name)?.value === entry.value) continue;
      if (entry.family === 4) this.#maps.vips.set(entry.key, entry.value);
      else this.#maps.vips6.set(entry.key, entry.value);
      this.#vips.set(name, entry);
    }
  }

  /** Wipes what hangs on numbers that have new owners: flows, and counters. */
  #reuse({ indices, places }: Numbers): void {
    this.#maps.conns.forget(({ key, value }) => places.has(value) || indices.has(Number(key & 0xffffn)));
    this.#maps.conns6.forget(({ key, value }) => places.has(value) || indices.has(Number(key.low & 0xffffn)));
    this.#nat?.forget(indices);
    for (const [counters, numbers] of [
      [this.#maps.vipTraffic, indices],
      [this.#maps.realTraffic, places],
    ] as const)
      counters.setMany([...numbers].map((number) => [number, (counters.get(number) ?? []).map(() => ({ packets: 0n, bytes: 0n }))]));
  }

  #realEntries(plan: readonly PlannedVip[]): [place: number, value: RealValue][] {
    const planned = plan.flatMap(({ vip, reals }) =>
      reals.map((real): [number, RealValue] => [real.real.place, this.#realEntry(vip.index, real)]),
    );
    const wanted = new Set(planned.map(([place]) => place));
    const gone = [...this.#reals].filter(([place]) => !wanted.has(place));
    return [...planned, ...gone.map(([place, value]): [number, RealValue] => [place, { ...value, state: RealState.down, vip: 0 }])];
  }

  #realEntry(index: number, { real, hop, condition }: PlannedReal): RealValue {
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
      vip: index + 1,
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
function vipEntries(plan: readonly PlannedVip[]): readonly VipEntry[] {
  const entries = plan.flatMap(({ vip: { address, port, protocol, index } }) => {
    const entry = (port: number, protocol: number, value: number): VipEntry =>
      address.family === 4
        ? { family: 4, key: vipKey({ address: address.value, port, protocol }), value }
        : { family: 6, key: vipKey6({ address: address.value, port, protocol }), value };
    return [entry(0, 0, 1), entry(port, protocol, index + 1)];
  });
  return [...new Map(entries.map((entry) => [nameOf(entry), entry])).values()];
}

/** Tells keys of both families apart. */
function nameOf({ family, key }: VipEntry): string {
  return family === 4 ? `${key}` : `${key.hi} ${key.lo} ${key.low}`;
}

/** Numbers that somebody else had before; remembers the new owners. */
function newOwners(owners: Map<number, string>, now: readonly (readonly [number: number, owner: string])[]): ReadonlySet<number> {
  const used = new Set<number>();
  for (const [number, owner] of now) {
    const before = owners.get(number);
    if (before !== undefined && before !== owner) used.add(number);
    owners.set(number, owner);
  }
  return used;
}

/** The plan without those who have these numbers. */
function without(plan: readonly PlannedVip[], { indices, places }: Numbers): readonly PlannedVip[] {
  return plan
    .filter(({ vip }) => !indices.has(vip.index))
    .map(({ vip, members, reals }) => ({
      vip,
      members: members.filter(({ value }) => !places.has(value)),
      reals: reals.filter(({ real }) => !places.has(real.place)),
    }));
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
