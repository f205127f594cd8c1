/**
 * What a pipeline that outlives its process says of itself, beside its pins: enough for the next process to tell its maps by
 * schema, and to go on with its chains. Everything pinned that is not in here was half made.
 */
import { TailraceError } from '@tailrace/bpf';
import type { Crossing } from '@tailrace/compiler';
import type { AnyMap } from '@tailrace/stage';
import { type ChainHook, chainHooks } from './chain-hook.ts';
import type { CounterBlock, FieldPlace, StateLayout } from './state.ts';
import type { CarriedCounts } from './stats.ts';

/** A chain that is pinned. */
export interface KeptChain {
  /** Tells its root's code from others. */
  readonly root: string;
  /** The state as programs know it. */
  readonly layout: StateLayout;
  /** While it changes: as programs will know it, or do already. */
  readonly next: StateLayout | undefined;
  /** The program that its root led to when the change was announced, by id: where it leads elsewhere now, packets were led over. */
  readonly head?: number;
  readonly carried: CarriedCounts;
  /** Tail calls that a packet can take in it. */
  readonly depth: number;
}

/** A map that is pinned. */
export interface KeptMap {
  readonly pin: string;
  readonly declaration: MapShape;
  /** A stage or controller used it when this was written. */
  readonly used: boolean;
  /** Set under `beforeName`: its entries are on their way into the map that has its name. */
  readonly leaves?: LeavingMap;
}

/** What is known of a map whose entries are taken over into another. */
export interface LeavingMap {
  /** The pin of what was brought. */
  readonly copied: string;
  /** Packets were led to the new map: it holds then, and what others wrote into this one since is still to come. Otherwise this one holds. */
  readonly flipped: boolean;
}

/** What two declarations have to agree in: layouts in place of schemas. */
export type MapShape = Pick<AnyMap, 'type' | 'maxEntries' | 'flags' | 'hashes'> & {
  readonly key: Pick<AnyMap['value'], 'layout'> | undefined;
  readonly value: Pick<AnyMap['value'], 'layout'>;
  readonly inner?: MapShape;
};

/** How old it is. Times are ms since 1970, by the clock of the host. */
export interface KeptAge {
  /** It was run first. */
  readonly began: number;
  /** Its chains were led over last, by a change or by a process that took it over. */
  readonly changed: number;
  /** How often they were, counted from 1. */
  readonly generation: number;
}

/** What is written. */
export interface Manifest {
  /** The network namespace of its links. */
  readonly place: string;
  readonly age: KeptAge;
  readonly crossing: { readonly version: number; readonly names: readonly string[]; readonly way: Crossing | undefined };
  readonly chains: ReadonlyMap<ChainHook, KeptChain>;
  /** By name, e.g. `l4lb/conns`. */
  readonly maps: ReadonlyMap<string, KeptMap>;
}

/** The form that this version writes, and the only one that it reads. */
const FORMAT = 2;

/** What is pinned is told of in a form that this version cannot read. */
export class ManifestError extends TailraceError {
  /** The pipeline's name. */
  readonly pipeline: string;
  /** What is the matter with them. */
  readonly problem: string;

  constructor(pipeline: string, problem: string, cause?: unknown) {
    super('conflict', `the pins of pipeline '${pipeline}': ${problem}`, {
      hint: 'another version of tailrace made them: go on with that one, or remove them with all state',
      cause,
    });
    this.pipeline = pipeline;
    this.problem = problem;
  }
}

/** The text of a manifest. */
export function manifestText({ place, age, crossing, chains, maps }: Manifest): string {
  const byHook = [...chains].map(([hook, { layout, next, carried, ...rest }]) => {
    const counts = [...carried].map(([name, own]) => [name, [...own].map(([label, count]) => [label, String(count)])]);
    return [hook, { ...rest, layout: layoutJson(layout), next: next && layoutJson(next), carried: counts }];
  });
  return JSON.stringify({ format: FORMAT, place, age, crossing, chains: byHook, maps: [...maps] });
}

/** Reads a manifest. Throws ManifestError. */
export function parseManifest(pipeline: string, text: string): Manifest {
  let read: Written;
  try {
    read = JSON.parse(text) as Written;
  } catch (error) {
    throw new ManifestError(pipeline, 'they are told of in no JSON', error);
  }
  if (read.format !== FORMAT) throw new ManifestError(pipeline, `they are told of in form ${read.format}, expected ${FORMAT}`);
  const chains = read.chains.map(([hook, { layout, next, carried, ...rest }]): readonly [ChainHook, KeptChain] => {
    if (!chainHooks.includes(hook)) throw new ManifestError(pipeline, `they have a chain at '${hook}', which is not known here`);
    const counts = new Map(carried.map(([name, own]) => [name, new Map(own.map(([label, count]) => [label, BigInt(count)]))]));
    return [hook, { ...rest, layout: layoutOf(layout), next: next && layoutOf(next), carried: counts }];
  });
  const { names, version, way } = read.crossing;
  return { place: read.place, age: read.age, crossing: { names, version, way }, chains: new Map(chains), maps: new Map(read.maps) };
}

/** The name of what a map was, while its entries are taken over. No map of a pipeline has a colon in its name. */
export function beforeName(map: string): string {
  return `${map}${BEFORE}`;
}

/** The name that `beforeName` was made of. */
export function nameBehind(before: string): string {
  return before.slice(0, -BEFORE.length);
}

const BEFORE = ':before';

/** Everything that is pinned for a map. */
export function pinsOfMap({ pin, leaves }: KeptMap): readonly string[] {
  return leaves ? [pin, leaves.copied] : [pin];
}

/** The maps that a process left which may have died while it took entries over: the new ones where packets were led there, otherwise the old. */
export function mapsLeft(maps: Manifest['maps'], flipped: boolean): Manifest['maps'] {
  const left = new Map(maps);
  for (const [name, { leaves, ...kept }] of maps) {
    if (leaves === undefined || leaves.flipped) continue;
    if (flipped) left.set(name, { ...kept, leaves: { ...leaves, flipped } });
    else {
      left.delete(name);
      left.set(nameBehind(name), { ...kept, used: true });
    }
  }
  return left;
}

/** What of a declaration is written. */
export function shapeOf({ type, maxEntries, flags, hashes, key, value, inner }: AnyMap): MapShape {
  return {
    type,
    maxEntries,
    flags,
    key: key && { layout: key.layout },
    value: { layout: value.layout },
    ...(hashes === undefined ? {} : { hashes }),
    ...(inner === undefined ? {} : { inner: shapeOf(inner) }),
  };
}

/**
 * The layout that a chain's next one has to get along with: of a chain that was being changed, places that stay are where they
 * were, and what programs may know already is taken too.
 */
export function occupiedLayout({ layout, next }: KeptChain): StateLayout {
  return next === undefined ? layout : bothLayouts(layout, next);
}

/** What either takes: of `first` under its own names, of `second` under names that no place or field has. */
export function bothLayouts(first: StateLayout, second: StateLayout): StateLayout {
  const others = <T>(entries: ReadonlyMap<string, T>): [string, T][] => [...entries].map(([name, entry]) => [`next ${name}`, entry]);
  return {
    size: first.size,
    fields: new Map([...first.fields, ...others(second.fields)]),
    counters: new Map([...first.counters, ...others(second.counters)]),
    telling: first.telling ?? second.telling,
  };
}

interface WrittenLayout {
  readonly size: number;
  readonly fields: readonly (readonly [string, FieldPlace])[];
  readonly counters: readonly (readonly [string, CounterBlock])[];
  readonly telling: number | undefined;
}

interface Written {
  readonly format: unknown;
  readonly place: string;
  readonly age: KeptAge;
  readonly crossing: Manifest['crossing'];
  readonly chains: readonly (readonly [
    ChainHook,
    Omit<KeptChain, 'layout' | 'next' | 'carried'> & {
      readonly layout: WrittenLayout;
      readonly next: WrittenLayout | undefined;
      readonly carried: readonly (readonly [string, readonly (readonly [string, string])[]])[];
    },
  ])[];
  readonly maps: readonly (readonly [string, KeptMap])[];
}

function layoutJson({ size, fields, counters, telling }: StateLayout): WrittenLayout {
  return { size, fields: [...fields], counters: [...counters], telling };
}

function layoutOf({ size, fields, counters, telling }: WrittenLayout): StateLayout {
  return { size, fields: new Map(fields), counters: new Map(counters), telling };
}
