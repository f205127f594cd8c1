/**
 * The map registry: which declaration is which live map. Identity is the declaration's value, so that two stages which
 * use one declaration share one map; declarations marked global are one by name. A map lives as long as someone holds it.
 */
import { ArgumentError, type LoadedMap, MapFlag, type MapSpec } from '@tailrace/bpf';
import { type AnyMap, type AnyStructure, ConflictError, mapDifferences, type Resource, toMapSpec } from '@tailrace/stage';
import { asyncScheduler, type SchedulerLike } from 'rxjs';
import { ChainError } from './chain-error.ts';
import { beforeName } from './manifest.ts';
import { mapHandle } from './map-handle.ts';
import { type MapStore, noStore, type StoredMap } from './map-store.ts';
import type { MapMaker } from './maps-handle.ts';

/** Someone who needs a map. */
export interface MapClaim {
  readonly map: AnyMap;
  /** First part of its name: a function's, or the pipeline's. */
  readonly scope: string;
  /** The stage or controller that uses it, for messages and to tell maps of one name in one scope apart. */
  readonly user: string;
  /** It goes with the process, whatever is kept of others. */
  readonly transient?: true;
  /** A map that is open: this one takes over its name, and somebody brings its entries along. */
  readonly after?: AnyMap;
}

/** Keeps maps open; disposing of it closes those that nobody else holds. */
export interface MapHold extends Disposable {
  readonly maps: readonly AnyMap[];
}

/** Makes and shares the maps of one running pipeline. */
export interface MapRegistry {
  /** Opens the maps of these claims, or none. Throws ConflictError, and what the engine throws. */
  hold(claims: readonly MapClaim[]): MapHold;
  /** The live map of a declaration. Throws ChainError where none is open. */
  loaded(map: AnyMap): LoadedMap;
  /** The handle of a map or structure, the same one each time. Throws ChainError where a map of it is not open. */
  handle<H>(resource: Resource<unknown, H>): H;
  /** Ends what reads maps, then closes them, whoever holds them. */
  close(): void;
  /** All open maps, by name. */
  readonly names: ReadonlyMap<string, LoadedMap>;
}

/** Keeps maps beyond the process. */
export interface MapKeeper {
  /** The map of that name as it was left, or a new one; always a new one where it `takesOver` the name from one that is open. */
  openMap(
    map: AnyMap,
    spec: MapSpec,
    create: (spec: MapSpec) => LoadedMap,
    takesOver: boolean,
  ): { readonly loaded: LoadedMap; readonly isNew: boolean };
  /** Nobody holds it any more. */
  closeMap(name: string): void;
}

/** What a registry is made with besides. */
export interface RegistryOptions {
  /** Has what outlives the process. */
  readonly keeper?: MapKeeper | undefined;
  /** Tells streams of changes when to look. */
  readonly clock?: SchedulerLike;
  /** Is told of maps. */
  readonly store?: MapStore;
}

interface OpenMap {
  name: string;
  /** Open still, and had the name before. */
  before: OpenMap | undefined;
  readonly claim: MapClaim;
  readonly loaded: LoadedMap;
  readonly handle: unknown;
  /** The map itself, and what its handle opened. */
  readonly resources: DisposableStack;
  holds: number;
}

/** The registry that pipelines use unless a service of theirs replaces it. */
export class EngineMapRegistry implements MapRegistry {
  readonly #instance: MapMaker;
  readonly #keeper: MapKeeper | undefined;
  readonly #clock: SchedulerLike;
  readonly #store: MapStore;
  /** Declarations of one global name share one entry. */
  readonly #open = new Map<AnyMap, OpenMap>();
  readonly #byName = new Map<string, OpenMap>();
  readonly #structures = new WeakMap<object, { readonly parts: readonly unknown[]; readonly handle: unknown }>();

  constructor(instance: MapMaker, { keeper, clock = asyncScheduler, store = noStore }: RegistryOptions = {}) {
    this.#instance = instance;
    this.#keeper = keeper;
    this.#clock = clock;
    this.#store = store;
  }

  get names(): ReadonlyMap<string, LoadedMap> {
    return new Map([...this.#byName].map(([name, { loaded }]) => [name, loaded]));
  }

  hold(claims: readonly MapClaim[]): MapHold {
    using undo = new DisposableStack();
    const unique = new Map<AnyMap, MapClaim>();
    for (const claim of claims) if (!unique.has(claim.map)) unique.set(claim.map, claim);
    const wanted = [...unique.values()];
    for (const claim of wanted) {
      const open = this.#open.get(claim.map);
      if (open && claim.after && open.before !== this.#open.get(claim.after))
        throw new ArgumentError(`migrate: map '${open.name}' is in use already, expected one that the pipeline does not have yet`);
      const entry = open ?? this.#openMap(claim, wanted);
      entry.holds += 1;
      this.#open.set(claim.map, entry);
      undo.defer(() => this.#release(entry));
    }
    const held = undo.move();
    return { maps: [...unique.keys()], [Symbol.dispose]: () => held.dispose() };
  }

  loaded(map: AnyMap): LoadedMap {
    return this.#entry(map).loaded;
  }

  handle<H>(resource: Resource<unknown, H>): H {
    const value: unknown = resource;
    if (!isMapOrStructure(value)) throw new ChainError('absent', `'${resource.name}' is neither a map nor a structure`);
    return (value.kind === 'map' ? this.#entry(value).handle : this.#structureHandle(value)) as H;
  }

  close(): void {
    using all = new DisposableStack();
    // In the order in which they were opened, which is the opposite of the stack's.
    for (const { resources } of [...this.#byName.values()].reverse()) all.use(resources);
    this.#open.clear();
    this.#byName.clear();
  }

  #structureHandle(structure: AnyStructure): unknown {
    const parts = Object.entries(structure.maps).map(([name, map]) => [name, this.#entry(map).handle] as const);
    const known = this.#structures.get(structure);
    // A map that was closed and opened again has another handle.
    if (known?.parts.every((part, i) => part === parts[i]?.[1])) return known.handle;
    const handle = structure.handle(Object.fromEntries(parts));
    this.#structures.set(structure, { parts: parts.map(([, part]) => part), handle });
    return handle;
  }

  #entry(map: AnyMap): OpenMap {
    const entry = this.#open.get(map);
    if (entry === undefined)
      throw new ChainError('absent', `map '${map.name}' is not in this pipeline`, {
        hint: 'a map is the value that hash(), lpmTrie() and the like returned; another one with the same name is another map',
      });
    return entry;
  }

  #openMap(claim: MapClaim, claims: readonly MapClaim[]): OpenMap {
    const { map } = claim;
    const before = claim.after && this.#entry(claim.after);
    if (map.global === true && before === undefined) {
      const open = this.#byName.get(map.name);
      if (open !== undefined) return sameGlobal(open, claim);
    }
    const name = this.#nameOf(claim, claims, before);
    using resources = new DisposableStack();
    const keeper = claim.transient ? undefined : this.#keeper;
    const { loaded, isNew } = this.#make(map, toMapSpec(map, name), keeper, before !== undefined);
    let entry: OpenMap | undefined;
    resources.defer(() => {
      loaded.close();
      keeper?.closeMap(entry?.name ?? name);
    });
    if (isNew) fill(map, loaded);
    const stored: StoredMap = { name, map, loaded, isNew };
    this.#store.opened(stored);
    resources.defer(() => this.#store.closing(stored));
    const handle = mapHandle(map, loaded, { maker: this.#instance, clock: this.#clock, resources });
    entry = { name, before, claim, loaded, handle, resources: resources.move(), holds: 0 };
    if (before) this.#rename(before, beforeName(name));
    this.#byName.set(name, entry);
    return entry;
  }

  #make(...[map, spec, keeper, takesOver]: [AnyMap, MapSpec, MapKeeper | undefined, boolean]): ReturnType<MapKeeper['openMap']> {
    const create = (wanted: MapSpec): LoadedMap => this.#instance.createMap(wanted);
    return keeper ? keeper.openMap(map, spec, create, takesOver) : { loaded: create(spec), isNew: !takesOver };
  }

  #rename(entry: OpenMap, name: string): void {
    this.#byName.delete(entry.name);
    entry.name = name;
    this.#byName.set(name, entry);
  }

  /**
   * Names need to be unique within a stage or function only: where two of a pipeline's own stages meet, theirs joins. A map
   * that comes with a swap may meet the one that goes: it gets a number, unless it takes over from that one.
   */
  #nameOf(claim: MapClaim, claims: readonly MapClaim[], before: OpenMap | undefined): string {
    const { map, scope, user } = claim;
    const rivals = claims.filter(
      (other) => other.map !== map && other.scope === scope && other.map.name === map.name && other.map.global !== true,
    );
    const twin = rivals.find((other) => other.user === user);
    if (twin !== undefined && map.global !== true) throw takenName(`${scope}/${map.name}`, twin, claim);
    const name = map.global === true ? map.name : rivals.length > 0 ? `${scope}/${user}.${map.name}` : `${scope}/${map.name}`;
    const open = this.#byName.get(name);
    if (before !== undefined && open !== before)
      throw new ArgumentError(`migrate: map '${before.name}' cannot become '${name}'`, {
        hint: 'entries are taken along under one name: keep that of the map, and of the stage or function that has it',
      });
    if (open === before) return name;
    // the next process knows it by its name alone
    if (open && this.#keeper && !claim.transient) throw takenName(name, open.claim, claim);
    let free = name;
    for (let count = 2; this.#byName.has(free); count++) free = `${name}.${count}`;
    return free;
  }

  #release(entry: OpenMap): void {
    entry.holds -= 1;
    if (entry.holds > 0) return;
    for (const [map, open] of this.#open) if (open === entry) this.#open.delete(map);
    this.#byName.delete(entry.name);
    for (const open of this.#byName.values()) if (open.before === entry) open.before = undefined;
    if (entry.before) this.#rename(entry.before, entry.name);
    entry.resources.dispose();
  }
}

/** Puts in what a map out of an object holds from the start; programs then know constants by their values. */
function fill({ origin, flags }: AnyMap, loaded: LoadedMap): void {
  for (const { key, value } of origin?.contents ?? []) loaded.update(key, value);
  if (origin && (flags & MapFlag.readOnlyProgram) !== 0) loaded.freeze?.();
}

function sameGlobal(open: OpenMap, claim: MapClaim): OpenMap {
  const differences = mapDifferences(open.claim.map, claim.map);
  if (differences.length > 0)
    throw new ConflictError(
      `global map '${open.name}' of '${open.claim.user}' and '${claim.user}'`,
      differences,
      'declare it once and import it',
    );
  return open;
}

function takenName(name: string, first: MapClaim, second: MapClaim): ConflictError {
  const differences = mapDifferences(first.map, second.map);
  const listed = differences.length > 0 ? differences : [{ field: 'declared by', ours: `'${first.user}'`, theirs: `'${second.user}'` }];
  return new ConflictError(
    `two maps named '${name}'`,
    listed,
    'give one another name, share one declaration, or migrate() one to the other',
  );
}

function isMapOrStructure(value: unknown): value is AnyMap | AnyStructure {
  return typeof value === 'object' && value !== null && 'kind' in value && (value.kind === 'map' || value.kind === 'structure');
}
