/**
 * The maps that a pipeline keeps beyond its process, by name. One that is declared otherwise than it is pinned is refused, or migrated:
 * the new one is pinned beside it, entries are brought over before and after packets are, and only then the old one goes.
 */
import { ArgumentError, type LoadedMap, type MapSpec, type PinFolder } from '@tailrace/bpf';
import { type AnyMap, ConflictError, mapDifferences, toMapSpec } from '@tailrace/stage';
import { beforeName, type KeptMap, nameBehind, pinsOfMap, shapeOf } from './manifest.ts';
import { copiedSpec, MapMigration, type MigrationMaps, type MigrationProgress } from './map-migration.ts';
import { isOne, type Migration, migrationOf } from './migration.ts';

/** What is known of maps when a process takes a pipeline. */
export interface KeptMapsParts {
  /** The pipeline's name. */
  readonly pipeline: string;
  readonly folder: PinFolder;
  readonly found: ReadonlyMap<string, KeptMap>;
  readonly migrations: readonly Migration[];
  /** Told how far they are. */
  readonly onMigration?: Told;
  /** Pins a map that was made here, or closes it. */
  pin(map: LoadedMap, as: string): LoadedMap;
}

type Create = (spec: MapSpec) => LoadedMap;
type Told = ((progress: MigrationProgress) => void) | undefined;

/** Entries on their way from one map into another. */
interface Moving {
  readonly moving: MapMigration;
  readonly maps: MigrationMaps;
  /** Packets were not led over yet, by this process or another. */
  isNew: boolean;
}

/** The maps of one pipeline. */
export class KeptMaps {
  readonly #parts: KeptMapsParts;
  readonly #all: Map<string, KeptMap>;
  /** Those that this process has opened. */
  readonly #opened: AnyMap[] = [];
  /** What is on its way, by name. */
  readonly #moving = new Map<string, Moving>();
  #migrations: readonly Migration[];
  #tell: Told;

  constructor(parts: KeptMapsParts) {
    this.#parts = parts;
    this.#migrations = parts.migrations;
    this.#tell = parts.onMigration;
    this.#all = new Map([...parts.found].map(([name, kept]) => [name, { ...kept, used: false }]));
  }

  /** As a manifest has them. */
  get all(): ReadonlyMap<string, KeptMap> {
    return new Map(this.#all);
  }

  /** Names of those that nothing uses. */
  get orphans(): readonly string[] {
    return [...this.#all].flatMap(([name, { used }]) => (used ? [] : [name])).sort();
  }

  /** Before maps of an update are opened: what becomes of the entries of those that are taken over. */
  begin(migrations: readonly Migration[], tell?: Told): void {
    this.#migrations = migrations;
    this.#tell = tell;
  }

  /**
   * The map of that name as it was left, a new one, or one that its entries come into: so where it is declared otherwise, and where it
   * `takesOver` from one that is open. Throws ConflictError with the fields in which a
   * pinned one differs from what is declared, or from what it is to be migrated from, and what the engine throws.
   */
  open(map: AnyMap, spec: MapSpec, create: Create, takesOver: boolean): { readonly loaded: LoadedMap; readonly isNew: boolean } {
    const { folder, pin } = this.#parts;
    const { name } = spec;
    const kept = this.#all.get(name);
    this.#opened.push(map);
    if (kept === undefined) {
      const as = this.#freePin(name);
      const loaded = pin(create(spec), as);
      this.#all.set(name, { pin: as, declaration: shapeOf(map), used: true });
      return { loaded, isNew: true };
    }
    if (takesOver || mapDifferences(map, pinnedMap(map, kept)).length > 0)
      return { loaded: this.#migrate(map, kept, spec, create), isNew: false };
    const loaded = folder.openMap(kept.pin, spec);
    this.#all.set(name, { ...kept, used: true });
    this.#goOn(map, loaded);
    return { loaded, isNew: false };
  }

  /**
   * One that is no longer used stays, unless it was made for a change that came to nothing: it is not `written` of then, or entries
   * were on their way into it, which stay in the one before.
   */
  close(name: string, written: ReadonlyMap<string, KeptMap> | undefined): void {
    const kept = this.#all.get(name);
    if (kept === undefined) return;
    if (this.#moving.get(name)?.isNew) this.#takeBack(name, kept);
    else if (written === undefined || written.has(name)) this.#all.set(name, { ...kept, used: false });
    else {
      this.#all.delete(name);
      for (const pin of pinsOfMap(kept)) this.#parts.folder.remove(pin);
    }
  }

  /** Brings all entries of maps that are migrated. Throws MigrationError, and ArgumentError for a migration of no map of the pipeline. */
  async copy(): Promise<void> {
    const strange = this.#migrations.find(({ to }) => !this.#opened.some((map) => isOne(to, map)));
    if (strange)
      throw new ArgumentError(`migrate: map '${strange.to.name}' is in no stage or controller of pipeline '${this.#parts.pipeline}'`, {
        hint: 'it is told by the value that hash(), lpmTrie() and the like returned',
      });
    for (const { moving, isNew } of this.#moving.values()) if (isNew) await moving.copy();
  }

  /** Brings what became different since in maps whose new ones are not in use yet. Throws MigrationError. */
  async follow(): Promise<void> {
    for (const { moving, isNew } of this.#moving.values()) if (isNew) await moving.follow();
  }

  /** Brings the last of it: the new maps are in use, and what finds no room there waits until there is some, or is given up. */
  async followLast(): Promise<void> {
    const giveUp = (name: string): string =>
      `once entries go, run it again; or give these up: tailrace forget ${this.#parts.pipeline} ${beforeName(name)}`;
    for (const [name, { moving }] of this.#moving) await moving.follow(giveUp(name));
  }

  /** Packets were led over: from here on the new maps hold. */
  flipped(): void {
    for (const [name, kept] of this.#all) if (kept.leaves) this.#all.set(name, { ...kept, leaves: { ...kept.leaves, flipped: true } });
    for (const moving of this.#moving.values()) moving.isNew = false;
  }

  /** All entries were brought. Returns the pins that are of no use any more. */
  endMigrations(): readonly string[] {
    this.#migrations = [];
    return [...this.#moving.keys()].flatMap((name) => this.#delete(beforeName(name)));
  }

  /**
   * Strikes one off that nothing uses, with what is still to come into it, and returns the pins. Throws ArgumentError for one that is
   * used or not there.
   */
  forget(name: string): readonly string[] {
    const kept = this.#all.get(name);
    if (kept === undefined || kept.used)
      throw new ArgumentError(`pipeline '${this.#parts.pipeline}' ${kept ? 'uses' : 'has no'} map '${name}'`, {
        hint: this.orphans.length > 0 ? `nothing uses ${this.orphans.join(', ')}` : 'it has none that nothing uses',
      });
    return [...this.#delete(name), ...this.#delete(beforeName(name))];
  }

  /** Makes the new map, and keeps the old one under another name. */
  #migrate(map: AnyMap, kept: KeptMap, spec: MapSpec, create: Create): LoadedMap {
    const { pipeline, folder, pin } = this.#parts;
    const { name } = spec;
    const pinned = pinnedMap(map, kept);
    const before = beforeName(name);
    const refused = (hint: string): ConflictError =>
      new ConflictError(`map '${name}' as it is declared, and as it is pinned`, mapDifferences(map, pinned), hint);
    if (this.#all.has(before))
      throw refused(
        `entries are on their way into it: run it once as it is pinned, or give them up: tailrace forget ${pipeline} ${before}`,
      );
    const migration = migrationOf(name, map, pinned, this.#migrations);
    if (migration === undefined)
      throw refused(`declare it as it was, migrate() it, or delete what it holds: tailrace forget ${pipeline} ${name}`);
    const [as, copiedAs] = [this.#freePin(name), this.#freePin(`copied:${name}`)];
    using undo = new DisposableStack();
    const made = (wanted: MapSpec, at: string): LoadedMap => {
      const one = undo.adopt(pin(create(wanted), at), (map) => map.close());
      undo.defer(() => folder.remove(at));
      return one;
    };
    const old = undo.adopt(folder.openMap(kept.pin, toMapSpec(migration.from, name)), (map) => map.close());
    const loaded = made(spec, as);
    this.#move(name, true, migration, { from: old, to: loaded, copied: made(copiedSpec(old), copiedAs) });
    undo.move();
    this.#all.set(before, { ...kept, used: false, leaves: { copied: copiedAs, flipped: false } });
    this.#all.set(name, { pin: as, declaration: shapeOf(map), used: true });
    return loaded;
  }

  /** Where a process died between leading packets over and bringing the last entries. */
  #goOn(map: AnyMap, loaded: LoadedMap): void {
    const { pipeline, folder } = this.#parts;
    const { name } = loaded.spec;
    const before = this.#all.get(beforeName(name));
    if (before?.leaves === undefined) return;
    const migration = migrationOf(name, map, pinnedMap(map, before), this.#migrations);
    if (migration === undefined)
      throw new ConflictError(
        `map '${name}' as it is declared, and as its last entries are pinned`,
        mapDifferences(map, pinnedMap(map, before)),
        `migrate() them, or give them up: tailrace forget ${pipeline} ${beforeName(name)}`,
      );
    const from = folder.openMap(before.pin, toMapSpec(migration.from, name));
    const copied = folder.openMap(before.leaves.copied, copiedSpec(from));
    this.#move(name, false, migration, { from, to: loaded, copied });
  }

  #move(name: string, isNew: boolean, migration: Migration, maps: MigrationMaps): void {
    this.#moving.set(name, { moving: new MapMigration(migration, maps, this.#tell), maps, isNew });
  }

  /** The map that entries were on their way out of has its name again. */
  #takeBack(name: string, made: KeptMap): void {
    const before = this.#all.get(beforeName(name));
    if (before?.leaves === undefined) return;
    const { leaves, ...kept } = before;
    this.#stopMoving(name);
    this.#all.delete(beforeName(name));
    this.#all.set(name, { ...kept, used: true });
    for (const pin of [made.pin, leaves.copied]) this.#parts.folder.remove(pin);
  }

  #stopMoving(name: string): void {
    const { from, copied } = this.#moving.get(name)?.maps ?? {};
    this.#moving.delete(name);
    from?.close();
    copied?.close();
  }

  /** What was still to come out of it stays where it is. */
  #delete(name: string): readonly string[] {
    const kept = this.#all.get(name);
    this.#all.delete(name);
    if (kept?.leaves) this.#stopMoving(nameBehind(name));
    return kept ? pinsOfMap(kept) : [];
  }

  #freePin(name: string): string {
    const taken = new Set(this.#parts.folder.list());
    for (let number = 1; ; number += 1) {
      const pin = number === 1 ? `map:${name}` : `map:${number}:${name}`;
      if (!taken.has(pin)) return pin;
    }
  }
}

/** The declaration that a map was pinned by, as far as it is known. */
function pinnedMap(map: AnyMap, { declaration }: KeptMap): AnyMap {
  return { ...map, inner: undefined, ...declaration } as AnyMap;
}
