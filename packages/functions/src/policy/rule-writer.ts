/**
 * Brings endpoints and their rules into the maps. What an endpoint gets is built beside what it has, and takes effect by
 * one write; what it had goes after a grace period, when no program can be reading it. So every packet is decided by all of
 * the old rules or all of the new ones.
 */
import type { GracePeriod } from '@tailrace/pipeline';
import { ArgumentError, type HandleOf } from '@tailrace/stage';
import { formatPrefix, type Prefix } from '../acl/prefix.ts';
import { type FoundEndpoint, type LeftEndpoint, leftEndpoint, placesIn, readRules } from './found.ts';
import { planScope, type ScopeEntries, type WrittenEndpoint } from './plan.ts';
import type { ParsedEndpoint, ParsedRule } from './rule.ts';
import { type policyTables, REASONS } from './tables.ts';

type Tables = ReturnType<typeof policyTables>;

/** The maps that are written, and what deletions wait for. */
export type RuleMaps = {
  readonly [K in
    | 'endpoints4'
    | 'endpoints6'
    | 'scopes'
    | 'peers4'
    | 'peers6'
    | 'ports'
    | 'hits'
    | 'denials'
    | 'flows'
    | 'pieces']: HandleOf<Tables[K]>;
} & { readonly gracePeriod: GracePeriod };

/** How much fits into maps whose handles do not tell. */
export interface RuleLimits {
  readonly maxPeers: number;
  readonly maxPorts: number;
}

/** Writes endpoints one by one. */
export class RuleWriter {
  readonly #maps: RuleMaps;
  readonly #limits: RuleLimits;
  readonly #written = new Map<string, WrittenEndpoint>();
  /** Indexes of endpoints and places of rules that nobody has. */
  readonly #indexes: number[];
  readonly #places: number[];
  /** Places of rules that are gone, which flows may still count into. */
  readonly #worn: Set<number>;
  /** Entries in the maps, those that are to go included. */
  readonly #used = { peers4: 0, peers6: 0, ports: 0 };
  #lastScope: number;
  #lastSet: number;
  /** What another process left, and nobody has taken over yet. */
  #left: readonly FoundEndpoint[];
  #strays: readonly ScopeEntries[];
  #leftAddresses: readonly Prefix[];
  #cleaning: Promise<void> = Promise.resolve();

  /** Goes on from what the maps hold: endpoints are taken over by their addresses as they are put in, until `removeLeft`. */
  constructor(maps: RuleMaps, limits: RuleLimits) {
    this.#maps = maps;
    this.#limits = limits;
    const { endpoints, stray, counted, lastScope, lastSet } = readRules(maps);
    this.#left = endpoints;
    this.#strays = [stray];
    this.#leftAddresses = endpoints.flatMap(({ addresses }) => addresses);
    this.#lastScope = lastScope;
    this.#lastSet = lastSet;
    const all = [stray, ...endpoints.map(({ entries }) => entries)];
    const indices = new Set(endpoints.map(({ index }) => index));
    const places = new Set(all.flatMap(placesIn));
    this.#indexes = downFrom(maps.scopes.size - 1).filter((index) => !indices.has(index));
    this.#places = downFrom(maps.hits.size - 1).filter((place) => !places.has(place) && !counted.has(place));
    this.#worn = new Set(counted).difference(places);
    for (const entries of all) this.#count(entries, 1);
  }

  /** All endpoints by name, in the order in which they came. */
  get endpoints(): ReadonlyMap<string, WrittenEndpoint> {
    return this.#written;
  }

  /** Resolves once nothing of old rules is left in the maps. Throws what the engine throws. */
  settled(): Promise<void> {
    return this.#cleaning;
  }

  /**
   * Puts an endpoint in, or in the place of the one of its name, or of one that was left at an address of it. Throws ArgumentError and
   * changes nothing where it does not fit.
   */
  put(endpoint: ParsedEndpoint): void {
    const { name } = endpoint;
    const known = this.#written.get(name);
    const left = known ? undefined : this.#leftAt(endpoint);
    const old = known ?? left?.written;
    this.#checkAddresses(endpoint, known?.endpoint.addresses ?? []);
    if (left?.isSame) {
      this.#left = this.#left.filter((other) => other !== left.found);
      this.#written.set(name, { ...left.written, endpoint });
      this.#setAddresses(endpoint.addresses, left.written.index);
      return;
    }
    const index = old?.index ?? this.#indexes.at(-1);
    if (index === undefined) throw full(`${this.#written.size} endpoints`, `'${name}'`, 'maxEndpoints');
    const fresh = endpoint.rules.filter(({ text }) => !old?.places.has(text));
    const free = this.#freePlaces(fresh.length, name);
    const places = new Map(endpoint.rules.map(({ text }) => [text, old?.places.get(text) ?? free.pop() ?? 0]));
    const scope = this.#lastScope + 1;
    const entries = this.#plan(endpoint.rules, scope, places);
    this.#checkRoom(entries, name);
    const taken = fresh.map(({ text }) => places.get(text) ?? 0);
    this.#zero(this.#maps.hits, taken);
    this.#lastScope = scope;
    this.#insert(entries);
    // From here on nothing is refused any more: what is taken is taken.
    for (const place of taken) this.#places.splice(this.#places.lastIndexOf(place), 1);
    if (!old) {
      this.#indexes.pop();
      this.#zero(
        this.#maps.denials,
        Array.from({ length: REASONS }, (_, reason) => index * REASONS + reason),
      );
    }
    this.#maps.scopes.set(index, scope);
    this.#written.set(name, { endpoint, index, places, entries });
    this.#setAddresses(endpoint.addresses, index);
    if (!old) return;
    if (left) this.#left = this.#left.filter((other) => other !== left.found);
    else this.#deleteAddresses(without(old.endpoint.addresses, endpoint.addresses));
    const gone = [...old.places].filter(([text]) => !places.has(text)).map(([, place]) => place);
    this.#clean(old.entries, () => this.#wear(gone));
  }

  /** What was left and nobody has taken over goes, and its flows with it. */
  removeLeft(): void {
    const [left, entries] = [this.#left, [...this.#strays, ...this.#left.map((endpoint) => endpoint.entries)]];
    const written = [...this.#written.values()];
    this.#deleteAddresses(
      without(
        this.#leftAddresses,
        written.flatMap(({ endpoint }) => endpoint.addresses),
      ),
    );
    [this.#left, this.#strays, this.#leftAddresses] = [[], [], []];
    for (const { index } of left) this.#maps.scopes.set(index, 0);
    const known = new Set(written.map(({ index }) => index));
    this.flush((index) => !known.has(index));
    for (const one of entries)
      if (one.peers4.length + one.peers6.length + one.ports.length > 0) this.#clean(one, () => this.#wear(placesIn(one)));
    if (left.length === 0) return;
    const gone = new Set(left.map(({ index }) => index));
    this.#clean({ peers4: [], peers6: [], ports: [] }, () => {
      // a packet that was on its way may have started one more
      this.flush((index) => gone.has(index));
      this.#indexes.push(...gone);
    });
  }

  /** Takes an endpoint out, and its flows with it. False where there is none. */
  remove(name: string): boolean {
    const old = this.#written.get(name);
    if (!old) return false;
    this.#written.delete(name);
    this.#deleteAddresses(old.endpoint.addresses);
    this.#maps.scopes.set(old.index, 0);
    this.flush((endpoint) => endpoint === old.index);
    this.#clean(old.entries, () => {
      // a packet that was on its way may have started one more
      this.flush((endpoint) => endpoint === old.index);
      this.#wear([...old.places.values()]);
      this.#indexes.push(old.index);
    });
    return true;
  }

  /** Forgets the flows of some endpoints, told by index; returns how many there were. */
  flush(which: (endpoint: number) => boolean): number {
    const { flows, pieces } = this.#maps;
    pieces.deleteMany(pieces.getAll().flatMap(([key, { endpoint }]) => (which(endpoint) ? [key] : [])));
    return flows.deleteMany(flows.getAll().flatMap(([key, { endpoint }]) => (which(endpoint) ? [key] : [])));
  }

  /** What was left at an address of this endpoint, as if it had been written here, and whether nothing of its rules is different. */
  #leftAt(endpoint: ParsedEndpoint): LeftEndpoint | undefined {
    const names = new Set(endpoint.addresses.map((prefix) => formatPrefix(prefix)));
    const found = this.#left.find((left) => left.addresses.some((prefix) => names.has(formatPrefix(prefix))));
    if (!found) return undefined;
    const numbers = new Map(endpoint.rules.map(({ text }, number) => [text, number]));
    return leftEndpoint(found, endpoint, this.#plan(endpoint.rules, found.scope, numbers));
  }

  #wear(places: readonly number[]): void {
    for (const place of places) this.#worn.add(place);
  }

  #plan(rules: readonly ParsedRule[], scope: number, places: ReadonlyMap<string, number>): ScopeEntries {
    const plans = (['ingress', 'egress'] as const).map((direction, number) =>
      planScope(
        rules.filter((rule) => rule.direction === direction),
        {
          scope: 2 * scope + number,
          placeOf: ({ text }) => places.get(text) ?? 0,
          nextSet: () => ++this.#lastSet,
        },
      ),
    );
    return {
      peers4: plans.flatMap(({ peers4 }) => peers4),
      peers6: plans.flatMap(({ peers6 }) => peers6),
      ports: plans.flatMap(({ ports }) => ports),
    };
  }

  #insert(entries: ScopeEntries): void {
    const { peers4, peers6, ports } = this.#maps;
    this.#count(entries, 1);
    try {
      ports.setMany(entries.ports);
      peers4.setMany(entries.peers4);
      peers6.setMany(entries.peers6);
    } catch (error) {
      this.#delete(entries);
      throw error;
    }
  }

  #delete(entries: ScopeEntries): void {
    const { peers4, peers6, ports } = this.#maps;
    peers4.deleteMany(entries.peers4.map(([key]) => key));
    peers6.deleteMany(entries.peers6.map(([key]) => key));
    ports.deleteMany(entries.ports.map(([key]) => key));
    this.#count(entries, -1);
  }

  #count({ peers4, peers6, ports }: ScopeEntries, by: 1 | -1): void {
    this.#used.peers4 += by * peers4.length;
    this.#used.peers6 += by * peers6.length;
    this.#used.ports += by * ports.length;
  }

  /** Deletes entries once no program reads them, and then does `behind`; one after the other. */
  #clean(entries: ScopeEntries, behind: () => void): void {
    const cleaned = this.#cleaning.then(async () => {
      await this.#maps.gracePeriod();
      this.#delete(entries);
      behind();
    });
    // whoever asks is told; that nobody asks is no crash
    cleaned.catch(() => undefined);
    this.#cleaning = cleaned;
  }

  /** So many places without an owner. Those of old rules come back once no flow counts into them. */
  #freePlaces(count: number, name: string): number[] {
    if (this.#places.length < count && this.#worn.size > 0) {
      const { flows, pieces } = this.#maps;
      const used = new Set([...flows.getAll(), ...pieces.getAll()].map(([, { rule }]) => rule));
      for (const place of this.#worn.difference(used)) {
        this.#worn.delete(place);
        this.#places.push(place);
      }
    }
    if (this.#places.length < count)
      throw full(`${this.#maps.hits.size - 1 - this.#places.length} rules`, `those of '${name}'`, 'maxRules');
    return this.#places.slice(this.#places.length - count);
  }

  #checkRoom({ peers4, peers6, ports }: ScopeEntries, name: string): void {
    const { maxPeers, maxPorts } = this.#limits;
    for (const [used, more, most, what, option] of [
      [this.#used.peers4, peers4.length, maxPeers, 'IPv4 peers', 'maxPeers'],
      [this.#used.peers6, peers6.length, maxPeers, 'IPv6 peers', 'maxPeers'],
      [this.#used.ports, ports.length, maxPorts, 'blocks of ports', 'maxPorts'],
    ] as const)
      if (used + more > most) throw full(`${used} ${what}`, `the ${more} of '${name}'`, option);
  }

  #checkAddresses({ name, addresses }: ParsedEndpoint, before: readonly Prefix[]): void {
    const added = without(addresses, before).map((prefix) => formatPrefix(prefix));
    for (const { endpoint } of this.#written.values())
      for (const prefix of endpoint.addresses)
        if (added.includes(formatPrefix(prefix)))
          throw new ArgumentError(`policy: address ${formatPrefix(prefix)} of '${name}' is that of '${endpoint.name}'`);
  }

  #setAddresses(addresses: readonly Prefix[], index: number): void {
    for (const prefix of addresses)
      if (prefix.family === 4) this.#maps.endpoints4.set(prefix.key, index);
      else this.#maps.endpoints6.set(prefix.key, index);
  }

  #deleteAddresses(addresses: readonly Prefix[]): void {
    for (const prefix of addresses)
      if (prefix.family === 4) this.#maps.endpoints4.delete(prefix.key);
      else this.#maps.endpoints6.delete(prefix.key);
  }

  #zero(map: RuleMaps['hits'], indexes: readonly number[]): void {
    const none = { packets: 0n, bytes: 0n };
    map.setMany(indexes.map((index) => [index, (map.get(index) ?? []).map(() => none)] as const));
  }
}

/** Those of `prefixes` that are not among `others`. */
function without(prefixes: readonly Prefix[], others: readonly Prefix[]): readonly Prefix[] {
  const known = new Set(others.map((prefix) => formatPrefix(prefix)));
  return prefixes.filter((prefix) => !known.has(formatPrefix(prefix)));
}

/** `most` to 1. */
function downFrom(most: number): number[] {
  return Array.from({ length: most }, (_, index) => most - index);
}

function full(there: string, more: string, option: string): ArgumentError {
  return new ArgumentError(`policy: ${there} are there, no room for ${more}`, { hint: `raise ${option}` });
}
