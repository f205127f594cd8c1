/**
 * What a policy finds in its maps as it starts: nothing, or what another process left of a persistent pipeline. Names and rules are
 * not in maps: endpoints are told by their addresses, and rules by the entries that they give.
 */
import type { HandleOf } from '@tailrace/stage';
import type { Prefix } from '../acl/prefix.ts';
import type { ScopeEntries, WrittenEndpoint } from './plan.ts';
import type { ParsedEndpoint } from './rule.ts';
import type { policyTables } from './tables.ts';

type Tables = ReturnType<typeof policyTables>;
/** The maps that are read. */
export type FoundMaps = {
  readonly [K in 'endpoints4' | 'endpoints6' | 'scopes' | 'peers4' | 'peers6' | 'ports' | 'flows' | 'pieces']: HandleOf<Tables[K]>;
};

/** An endpoint as another process left it. */
export interface FoundEndpoint {
  readonly index: number;
  readonly scope: number;
  readonly addresses: readonly Prefix[];
  readonly entries: ScopeEntries;
}

/** What the maps hold. */
export interface FoundRules {
  readonly endpoints: readonly FoundEndpoint[];
  /** Entries that no endpoint has: half made, or not deleted yet. */
  readonly stray: ScopeEntries;
  /** Places of rules that flows count into. */
  readonly counted: ReadonlySet<number>;
  /** The largest numbers that anything has. */
  readonly lastScope: number;
  readonly lastSet: number;
}

/** Reads the maps. */
export function readRules(maps: FoundMaps): FoundRules {
  const [peers4, peers6, ports] = [maps.peers4.getAll(), maps.peers6.getAll(), maps.ports.getAll()];
  const scopes = maps.scopes.getAll().filter(([, scope]) => scope !== 0);
  const addresses = [
    ...maps.endpoints4.getAll().map(([key, index]) => ({ index, prefix: { family: 4, key } satisfies Prefix })),
    ...maps.endpoints6.getAll().map(([key, index]) => ({ index, prefix: { family: 6, key } satisfies Prefix })),
  ];
  const entriesOf = (isOf: (scope: number) => boolean): ScopeEntries => {
    const own = { peers4: peers4.filter(([{ scope }]) => isOf(scope)), peers6: peers6.filter(([{ scope }]) => isOf(scope)) };
    const sets = new Set([...own.peers4, ...own.peers6].map(([, set]) => set));
    return { ...own, ports: ports.filter(([{ peers }]) => sets.has(peers)) };
  };
  const indices = new Set([...scopes.map(([index]) => index), ...addresses.map(({ index }) => index)]);
  const endpoints = [...indices].map((index): FoundEndpoint => {
    const scope = scopes.find(([other]) => other === index)?.[1] ?? 0;
    return {
      index,
      scope,
      addresses: addresses.flatMap((one) => (one.index === index ? [one.prefix] : [])),
      entries: entriesOf((other) => scope !== 0 && other >>> 1 === scope),
    };
  });
  const live = new Set(scopes.map(([, scope]) => scope));
  const owned = new Set(endpoints.flatMap(({ entries }) => entries.ports));
  const all = [...peers4, ...peers6];
  return {
    endpoints,
    stray: {
      peers4: peers4.filter(([{ scope }]) => !live.has(scope >>> 1)),
      peers6: peers6.filter(([{ scope }]) => !live.has(scope >>> 1)),
      ports: ports.filter((entry) => !owned.has(entry)),
    },
    counted: new Set([...maps.flows.getAll(), ...maps.pieces.getAll()].map(([, { rule }]) => rule)),
    lastScope: largest([...all.map(([{ scope }]) => scope >>> 1), ...live]),
    lastSet: largest([...all.map(([, set]) => set), ...ports.map(([{ peers }]) => peers)]),
  };
}

/** The places of rules that entries name. */
export function placesIn({ ports }: ScopeEntries): readonly number[] {
  return [...new Set(ports.map(([, place]) => place))];
}

/** An endpoint that was left, as if this process had written it. */
export interface LeftEndpoint {
  readonly found: FoundEndpoint;
  readonly written: WrittenEndpoint;
  /** Nothing of its rules is different. */
  readonly isSame: boolean;
}

/** Takes what was left for an endpoint. `planned` is what its rules give there, with their numbers as places. */
export function leftEndpoint(found: FoundEndpoint, { name, rules }: ParsedEndpoint, planned: ScopeEntries): LeftEndpoint {
  const { index, addresses, entries } = found;
  const same = samePlaces(planned, entries);
  const known = rules.flatMap(({ text }, number): [string, number][] => {
    const place = same?.get(number);
    return place === undefined ? [] : [[text, place]];
  });
  // rules that nobody knows: no other has such a text
  const unknown = placesIn(entries).map((place): [string, number] => [`place ${place}`, place]);
  const written = { endpoint: { name, addresses, rules: [] }, index, places: new Map(same ? known : unknown), entries };
  return { found, written, isSame: same !== undefined && known.length === rules.length };
}

/**
 * Whether entries are those that are planned, but for the numbers of sets and rules: gives the found number of each planned rule, or
 * undefined where they differ.
 */
function samePlaces(planned: ScopeEntries, found: ScopeEntries): ReadonlyMap<number, number> | undefined {
  const [sets, places] = [new Pairing(), new Pairing()];
  for (const family of ['peers4', 'peers6'] as const) {
    if (planned[family].length !== found[family].length) return undefined;
    const known = new Map<string, number>(found[family].map(([key, set]) => [JSON.stringify(key), set]));
    for (const [key, set] of planned[family]) if (!sets.pair(set, known.get(JSON.stringify(key)))) return undefined;
  }
  if (planned.ports.length !== found.ports.length) return undefined;
  const known = new Map<string, number>(found.ports.map(([key, place]) => [JSON.stringify(key), place]));
  for (const [key, place] of planned.ports)
    if (!places.pair(place, known.get(JSON.stringify({ ...key, peers: sets.of(key.peers) })))) return undefined;
  return places.pairs;
}

/** Numbers that stand for one another, each for one. */
class Pairing {
  readonly pairs = new Map<number, number>();
  readonly #taken = new Set<number>();

  /** False where one of them stands for another already, or there is no second. */
  pair(a: number, b: number | undefined): boolean {
    if (this.pairs.has(a)) return this.pairs.get(a) === b;
    if (b === undefined || this.#taken.has(b)) return false;
    this.pairs.set(a, b);
    this.#taken.add(b);
    return true;
  }

  of(a: number): number | undefined {
    return this.pairs.get(a);
  }
}

function largest(numbers: readonly number[]): number {
  return numbers.reduce((most, number) => Math.max(most, number), 0);
}
