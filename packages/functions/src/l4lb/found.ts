/**
 * What a balancer finds in its maps as it starts: nothing, or what another process left of a persistent pipeline. Vips and
 * reals that stay keep their numbers, so that flows keep their reals; what was known of reals counts until more is known.
 */
import { formatMac, type Infer, IpProtocol } from '@tailrace/stage';
import { formatAddress, type IpAddress } from '../address.ts';
import type { WideKey } from '../structures/mix.ts';
import { type BalancerConfig, nextFree, vipName } from './config.ts';
import type { NextHop } from './next-hop.ts';
import { type BalancerHandles, type Real, type Real6, RealState } from './tables.ts';

/** An entry of a table of vips. */
export type VipEntry =
  | { readonly family: 4; readonly key: bigint; readonly value: number }
  | { readonly family: 6; readonly key: WideKey; readonly value: number };

/** A place in the table of reals. */
export interface FoundReal {
  readonly place: number;
  /** The real by `ownerOf`; undefined where it or its vip is gone. */
  readonly owner: string | undefined;
  readonly value: Infer<typeof Real>;
  readonly value6: Infer<typeof Real6>;
}

/** What the maps hold. */
export interface FoundTables {
  readonly entries: readonly VipEntry[];
  /** Numbers of vips by name. */
  readonly indices: ReadonlyMap<string, number>;
  /** Numbers of vips that are gone, and may have left flows. */
  readonly worn: ReadonlySet<number>;
  readonly reals: readonly FoundReal[];
}

/** Reads the maps. */
export function readTables({ vips, vips6, vipTraffic, reals, reals6 }: BalancerHandles): FoundTables {
  const entries: readonly VipEntry[] = [
    ...[...vips.entries()].map(([key, value]): VipEntry => ({ family: 4, key, value })),
    ...[...vips6.entries()].map(([key, value]): VipEntry => ({ family: 6, key, value })),
  ];
  const names = new Map(entries.flatMap((entry) => (isAddress(entry) ? [] : [[entry.value - 1, nameOf(entry)] as const])));
  // where no packet was counted, no flow was remembered
  const used = Array.from({ length: vipTraffic.size }, (_, index) => index).filter((index) => vipTraffic.sum(index)?.packets !== 0n);
  return {
    entries,
    indices: new Map([...names].map(([index, name]) => [name, index])),
    worn: new Set(used.filter((index) => !names.has(index))),
    reals: reals.getAll().flatMap(([place, value]): FoundReal[] => {
      const value6 = reals6.get(place) ?? nowhere;
      const address = addressOf(value, value6);
      if (address === undefined) return [];
      const vip = names.get(value.vip - 1);
      return [{ place, owner: vip && ownerOf(vip, address), value, value6 }];
    }),
  };
}

/** The configuration with numbers as they were found, and with what is known of its reals. */
export function adopted(config: BalancerConfig, { indices, worn, reals }: FoundTables): BalancerConfig {
  const known = new Map(reals.flatMap((real) => (real.owner === undefined ? [] : [[real.owner, real] as const])));
  const index = numbersOf(
    config.vips.map(({ name }) => name),
    { known: indices, used: [...indices.values(), ...worn], first: 0, count: config.maxVips },
  );
  const place = numbersOf(
    config.vips.flatMap(({ name, reals }) => reals.map(({ address }) => ownerOf(name, address))),
    {
      known: new Map([...known].map(([owner, { place }]) => [owner, place])),
      used: reals.map(({ place }) => place),
      first: 1,
      count: config.maxReals,
    },
  );
  return {
    ...config,
    lastIndex: index.last,
    lastPlace: place.last,
    vips: config.vips.map((vip) => ({
      ...vip,
      index: index.of(vip.name),
      reals: vip.reals.map((real) => {
        const owner = ownerOf(vip.name, real.address);
        const value = known.get(owner)?.value;
        return { ...real, place: place.of(owner), ...(value?.state === RealState.up ? { left: hopOf(value) } : {}) };
      }),
    })),
  };
}

/** A real of a vip by name. */
export function ownerOf(vip: string, address: string): string {
  return `${vip} ${address}`;
}

/** What is known of a place that has no IPv6 address. */
export const nowhere: Infer<typeof Real6> = { address: { hi: 0n, lo: 0n }, source: { hi: 0n, lo: 0n }, fits: 0 };

/** Numbers for all owners: those that they have, and for others those behind the last that anybody had, in turn. */
function numbersOf(owners: readonly string[], range: NumberRange): { readonly last: number; of(owner: string): number } {
  const { known, used, first, count } = range;
  const numbers = new Map<string, number>();
  for (const owner of owners) {
    const number = known.get(owner);
    if (number !== undefined) numbers.set(owner, number);
  }
  let last = used.reduce((most, number) => Math.max(most, number), first - 1);
  for (const owner of owners) {
    if (numbers.has(owner)) continue;
    // there is one: a configuration has no more owners than there are numbers
    last = nextFree(last, first, count, new Set(numbers.values())) ?? first;
    numbers.set(owner, last);
  }
  return { last, of: (owner) => numbers.get(owner) ?? first };
}

interface NumberRange {
  readonly known: ReadonlyMap<string, number>;
  /** Numbers that somebody had. */
  readonly used: readonly number[];
  readonly first: number;
  readonly count: number;
}

/** An entry that says of an address that there are vips on it. */
function isAddress({ family, key }: VipEntry): boolean {
  return (family === 4 ? key & 0xffff_ffffn : key.low) === 0n;
}

function nameOf({ family, key }: VipEntry): string {
  const address: IpAddress = family === 4 ? { family, value: Number(key >> 32n) } : { family, value: { hi: key.hi, lo: key.lo } };
  const low = family === 4 ? key & 0xffff_ffffn : key.low;
  const protocol = Number(low & 0xffffn) === IpProtocol.tcp ? 'tcp' : 'udp';
  return vipName({ address: formatAddress(address), port: Number(low >> 16n), protocol });
}

function addressOf({ address }: Infer<typeof Real>, { address: { hi, lo } }: Infer<typeof Real6>): string | undefined {
  if (address !== 0) return formatAddress({ family: 4, value: address });
  return hi === 0n && lo === 0n ? undefined : formatAddress({ family: 6, value: { hi, lo } });
}

function hopOf({ hop, own, ifindex }: Infer<typeof Real>): NextHop {
  return { mac: formatMac(hop), ...(ifindex === 0 ? {} : { egress: { ifindex, mac: formatMac(own) } }) };
}
