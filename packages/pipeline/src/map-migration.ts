/**
 * Brings the entries of one live map into another while programs go on writing the first, and later the second. What was brought is
 * kept beside, byte by byte, in a third map: so whatever is different since can be told, and told from what others wrote. Memory of
 * the process stays the same however many entries there are; but keys of tries are held in it, as all readings of tries do.
 */
import { setImmediate } from 'node:timers/promises';
import { type Batch, type LoadedMap, MapFlag, type MapSpec } from '@tailrace/bpf';
import { conversionOf, keyOf, type Migration, MigrationError, type RawEntry, shown } from './migration.ts';
import { keyText, MigrationTarget, sameBytes } from './migration-target.ts';

/** How long entries are moved without a turn of the event loop. */
const TURN_MS = 10;

const MORE_ROOM = 'raise its maxEntries, or leave entries out';

/** The three maps. */
export interface MigrationMaps {
  readonly from: LoadedMap;
  readonly to: LoadedMap;
  /** What was brought, see `copiedSpec`. */
  readonly copied: LoadedMap;
}

/**
 * The blueprint of the map that keeps what was brought: a table, whatever the kind of the old map. It has room to spare, since a
 * reading of a map that changes can meet more keys than the map takes at a time.
 */
export function copiedSpec({ spec, valueStride }: LoadedMap): MapSpec {
  const { name, keySize, maxEntries } = spec;
  return {
    name: `${name}.copied`,
    type: 'hash',
    keySize,
    valueSize: valueStride,
    maxEntries: Math.min(2 * maxEntries, 0xffff_ffff),
    flags: MapFlag.noPrealloc,
  };
}

/** How far a migration is. */
export interface MigrationProgress {
  /** The map's full name, e.g. `edge/flows`. */
  readonly map: string;
  /** Whether all entries are brought, or those that changed meanwhile. */
  readonly pass: 'all' | 'changes';
  /** Entries of the old map that were looked at in this pass. */
  readonly entries: number;
}

/** Entries of one map on their way into another. */
export class MapMigration {
  readonly migration: Migration;
  readonly #maps: MigrationMaps;
  readonly #tell: (progress: MigrationProgress) => void;
  /** Entries that were brought and are kept beside; undefined where another process brought them. */
  #size: number | undefined;
  readonly #convert: (entry: RawEntry) => RawEntry | undefined;

  /** `tell` is told of each pass about every 10 ms, and at its end. */
  constructor(migration: Migration, maps: MigrationMaps, tell: (progress: MigrationProgress) => void = () => undefined) {
    this.migration = migration;
    this.#tell = tell;
    this.#maps = maps;
    this.#convert = conversionOf(migration, maps.from, maps.to);
  }

  /**
   * Brings all entries into a map that is new. Throws MigrationError where one cannot be converted, two become one, or there are more
   * than the new map takes, which it counts; the new map is of no use then.
   */
  async copy(): Promise<void> {
    const { from, to, copied } = this.#maps;
    const [target, turns] = [new MigrationTarget(to), this.#turns('all')];
    const evicts = to.spec.type === 'lruHash' || to.spec.type === 'lruPerCpuHash';
    let [entries, isFull] = [0, false];
    for (const part of from.readParts()) {
      copied.updateBatch(part);
      for (const entry of entriesIn(from, [part])) {
        if (turns.isDue) await turns.take();
        turns.entries += 1;
        const made = this.#convert(entry);
        if (made === undefined) continue;
        entries += 1;
        isFull ||= evicts && entries > to.spec.maxEntries;
        const insertion = isFull ? 'full' : target.insert(made);
        isFull = insertion === 'full';
        if (insertion === 'taken') throw this.#twice(entry);
      }
    }
    this.#size = turns.entries;
    turns.end();
    if (isFull) throw this.#noRoom(`has room for ${to.spec.maxEntries} entries, and ${entries} are to come`, MORE_ROOM);
  }

  /**
   * Brings what became different in the old map since the last time: entries that came, changed or went. What others wrote into the
   * new map meanwhile stays. Throws MigrationError as `copy` does; entries without room are brought by a later call that finds some,
   * and `hint` says what makes it.
   */
  async follow(hint = MORE_ROOM): Promise<void> {
    let [left, before] = [await this.#pass(), Number.POSITIVE_INFINITY];
    // what goes makes room behind those who needed it: again, as long as that brings some
    while (left > 0 && left < before) [left, before] = [await this.#pass(), left];
    const { maxEntries } = this.#maps.to.spec;
    if (left > 0) throw this.#noRoom(`has room for ${maxEntries} entries, and none for ${left} that came meanwhile`, hint);
  }

  /** One look at the old map and at what was brought. Returns how many entries found no room. */
  async #pass(): Promise<number> {
    const { from, to, copied } = this.#maps;
    const [target, turns] = [new MigrationTarget(to), this.#turns('changes')];
    const met = from.spec.type === 'lpmTrie' ? new Set<string>() : undefined;
    let [left, came, known] = [0, 0, 0];
    for (const entry of entriesIn(from)) {
      if (turns.isDue) await turns.take();
      turns.entries += 1;
      met?.add(keyText(entry.key));
      const before = copied.lookup(entry.key);
      if (before) known += 1;
      if (before && sameBytes(before, entry.value)) continue;
      if (this.#bring(target, before && { key: entry.key, value: before }, entry)) {
        copied.update(entry.key, entry.value);
        if (before === undefined) came += 1;
      } else left += 1;
    }
    // as many as were brought before are there still: none is gone
    const isWhole = known === this.#size;
    let gone = 0;
    for (const entry of isWhole ? [] : entriesIn(copied)) {
      if (turns.isDue) await turns.take();
      if (met ? met.has(keyText(entry.key)) : from.lookup(entry.key)) continue;
      this.#bring(target, entry, undefined);
      copied.delete(entry.key);
      gone += 1;
    }
    if (this.#size !== undefined) this.#size += came - gone;
    turns.end();
    return left;
  }

  #turns(pass: MigrationProgress['pass']): Turns {
    return new Turns((entries) => this.#tell({ map: this.#maps.to.spec.name, pass, entries }));
  }

  /** False where there is no room. */
  #bring(target: MigrationTarget, old: RawEntry | undefined, now: RawEntry | undefined): boolean {
    const [before, after] = [old && this.#convert(old), now && this.#convert(now)];
    if (before && after && sameBytes(before.key, after.key)) {
      target.replace(before, after);
      return true;
    }
    if (before) target.remove(before);
    return after === undefined || target.insert(after) !== 'full';
  }

  #twice(entry: RawEntry): MigrationError {
    const key = keyOf(this.migration, entry);
    return new MigrationError(this.#maps.to.spec.name, 'twice', `its entry ${shown(key)} and another become one`, { key });
  }

  #noRoom(message: string, hint: string): MigrationError {
    return new MigrationError(this.#maps.to.spec.name, 'room', message, { hint });
  }
}

function* entriesIn(map: LoadedMap, parts: Iterable<Batch> = map.readParts()): Generator<RawEntry> {
  const [size, stride] = [map.spec.keySize, map.valueStride];
  for (const { count, keys, values } of parts)
    for (let i = 0; i < count; i++)
      yield { key: keys.subarray(i * size, (i + 1) * size), value: values.subarray(i * stride, (i + 1) * stride) };
}

/** Lets others have their turn, health checks among them, and tells how far it is. */
class Turns {
  entries = 0;
  #turned = performance.now();
  readonly #tell: (entries: number) => void;

  constructor(tell: (entries: number) => void) {
    this.#tell = tell;
  }

  get isDue(): boolean {
    return performance.now() - this.#turned >= TURN_MS;
  }

  async take(): Promise<void> {
    this.#tell(this.entries);
    await setImmediate();
    this.#turned = performance.now();
  }

  end(): void {
    this.#tell(this.entries);
  }
}
