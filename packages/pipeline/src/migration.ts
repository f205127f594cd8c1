/**
 * What becomes of the entries of a pinned map that is declared otherwise now: `migrate(old, now, convert)`. What is converted is one
 * entry at a time, between bytes as the old map holds them and bytes as the new one will. `map-migration` moves them.
 */
import { inspect } from 'node:util';
import { ArgumentError, isPerCpu, type LoadedMap, type MapType, TailraceError } from '@tailrace/bpf';
import { type AnyMap, ConflictError, type HandleOf, mapDifferences, schemaDifferences } from '@tailrace/stage';
import { type Codec, codec, encoded, perCpuCodec, viewOf } from './map-entries.ts';

/** A map whose entries can be taken along: tables, tries and arrays. */
export type MigratableMap = AnyMap & { readonly type: MigratableType };
type MigratableType = 'hash' | 'lruHash' | 'perCpuHash' | 'lruPerCpuHash' | 'lpmTrie' | 'array' | 'perCpuArray';

/** An entry as `entries()` of the map's handle gives it: per-CPU maps have a value for each CPU. */
export type EntryOf<M> = HandleOf<M> extends { entries(): Iterable<readonly [infer K, infer V]> } ? readonly [key: K, value: V] : never;
/** An entry as `setMany()` of the map's handle takes it. */
export type NewEntryOf<M> = HandleOf<M> extends { setMany(entries: Iterable<infer E>): void } ? E : never;

/** Makes an entry of the new map of one of the old; `undefined` leaves it out. */
export type Convert<A, B> = (...entry: EntryOf<A>) => NewEntryOf<B> | undefined;

/** For the parameters of `migrate`: entries of one type need nobody to convert them. */
export type ConvertArgs<A, B> = EntryOf<A> extends NewEntryOf<B> ? [convert?: Convert<A, B>] : [convert: Convert<A, B>];

/** How the entries of one map become those of another. */
export interface Migration {
  readonly from: AnyMap;
  readonly to: AnyMap;
  /** Undefined: entries stay what they are, by their schemas. */
  readonly convert: ((key: unknown, value: unknown) => readonly [key: unknown, value: unknown] | undefined) | undefined;
}

const migratable: ReadonlySet<MapType> = new Set<MigratableType>([
  'hash',
  'lruHash',
  'perCpuHash',
  'lruPerCpuHash',
  'lpmTrie',
  'array',
  'perCpuArray',
]);

/**
 * Says how a pinned map that was declared as `from` becomes `to`, for `run(engine, { persist: true, migrate: [...] })`. `convert` is
 * given each entry as handles give it and gives the new one, or `undefined` to leave it out; it is asked more than once for some, so
 * it has to tell the same of the same. No two entries may become one key. Throws ArgumentError for maps of different names, and for
 * kinds that have no entries to take along: they hold what ends with its process, or what cannot be read without taking it out.
 */
export function migrate<A extends MigratableMap, B extends MigratableMap>(from: A, to: B, ...[convert]: ConvertArgs<A, B>): Migration {
  for (const { name, type } of [from, to])
    if (!migratable.has(type))
      throw new ArgumentError(`migrate: map '${name}' is of type ${type}, whose entries cannot be taken along`, {
        hint: `those of ${[...migratable].join(', ')} can`,
      });
  if (from.name !== to.name)
    throw new ArgumentError(`migrate: maps '${from.name}' and '${to.name}' have different names, expected one`, {
      hint: 'what is pinned goes by its name',
    });
  return Object.freeze<Migration>({ from, to, convert: convert as Migration['convert'] });
}

/** Why entries cannot be taken along. */
export type MigrationProblem =
  /** Converting one failed, or gave what the new map cannot hold. */
  | 'convert'
  /** There are more than the new map takes. */
  | 'room'
  /** Two become one. */
  | 'twice';

/** Entries of a map cannot be taken along. */
export class MigrationError extends TailraceError {
  /** Its full name, e.g. `edge/flows`. */
  readonly map: string;
  readonly problem: MigrationProblem;
  /** The key in the old map of the entry at fault; undefined for `room`. */
  readonly key: unknown;

  constructor(map: string, problem: MigrationProblem, message: string, options: { key?: unknown; cause?: unknown; hint?: string } = {}) {
    super('migration', `map '${map}': ${message}`, options);
    this.map = map;
    this.problem = problem;
    this.key = options.key;
  }
}

/**
 * The migration of a map that is pinned as `pinned`; undefined where none is given for it. Throws ConflictError with the fields in
 * which a given one begins from something else.
 */
export function migrationOf(name: string, map: AnyMap, pinned: AnyMap, migrations: readonly Migration[]): Migration | undefined {
  const own = migrations.filter(({ to }) => isOne(to, map));
  const fits = own.find(({ from }) => mapDifferences(from, pinned).length === 0);
  const [first] = own;
  if (fits || first === undefined) return fits;
  throw new ConflictError(
    `map '${name}' as it is migrated from, and as it is pinned`,
    mapDifferences(first.from, pinned),
    'migrate it from the declaration that it was pinned with',
  );
}

/** Whether two declarations are the same map of a pipeline. */
export function isOne(one: AnyMap, other: AnyMap): boolean {
  return one === other || (one.global === true && other.global === true && one.name === other.name);
}

/** An entry as a map holds it. */
export interface RawEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Converts an entry of the old map; undefined where it is left out. Throws MigrationError. */
export type Conversion = (entry: RawEntry) => RawEntry | undefined;

/** Puts codecs of both maps around what a migration says. */
export function conversionOf({ from, to, convert }: Migration, old: LoadedMap, now: LoadedMap): Conversion {
  const { name } = now.spec;
  if (
    convert === undefined &&
    schemaDifferences(from, { ...to, type: from.type } as AnyMap).length === 0 &&
    isPerCpu(from.type) === isPerCpu(to.type)
  )
    return (entry) => entry;
  const [before, after] = [entryCodec(from, old, `the old map '${name}'`), entryCodec(to, now, `'${name}'`)];
  const same = (key: unknown, value: unknown) => [key, value] as const;
  return ({ key, value }) => {
    const read = before.key.read(viewOf(key), 0);
    try {
      const made = (convert ?? same)(read, before.value.read(viewOf(value), 0));
      return made && { key: encoded(after.key, made[0]), value: encoded(after.value, made[1]) };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new MigrationError(name, 'convert', `its entry ${shown(read)} cannot be converted: ${reason}`, { key: read, cause: error });
    }
  };
}

/** The key of an entry of the old map, for messages and errors. */
export function keyOf({ from }: Migration, { key }: RawEntry): unknown {
  return from.key && codec(from.key, 'key').read(viewOf(key), 0);
}

/** A key in a message. */
export function shown(key: unknown): string {
  return inspect(key, { breakLength: Infinity, compact: true });
}

function entryCodec({ key, value, type }: AnyMap, loaded: LoadedMap, subject: string): { key: Codec<unknown>; value: Codec<unknown> } {
  if (key === undefined) throw new ArgumentError(`${subject} has no keys`);
  const one = codec(value, `value of ${subject}`);
  // the schema says how many values there are
  const each = isPerCpu(type) ? (perCpuCodec(value, loaded) as Codec<unknown>) : one;
  return { key: codec(key, `key of ${subject}`), value: each };
}
