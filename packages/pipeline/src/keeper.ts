/**
 * Keeps a pipeline beyond its process: what it makes is pinned as it is made, and a manifest beside the pins says which of them
 * count. A chain's programs are held by its program arrays, those by pins, and the root by its links. Whatever moment a process
 * dies at, the next one finds chains that work, and knows the half-made by their absence from the manifest.
 */
import type { AttachHook, LoadedMap, LoadedProgram, MapSpec, PinFolder, PinningInstance, ProgramSpec } from '@tailrace/bpf';
import type { ChainLeft } from './chain.ts';
import { ChainError } from './chain-error.ts';
import { type ChainHook, hookTitle } from './chain-hook.ts';
import type { CompiledPipeline } from './change.ts';
import { findKept, type KeptOptions, ownPin, rootDigest, rootPin } from './found.ts';
import { KeptArrays } from './kept-arrays.ts';
import { KeptMaps } from './kept-maps.ts';
import { bothLayouts, type Manifest, manifestText } from './manifest.ts';
import type { Migration } from './migration.ts';
import type { MapKeeper } from './registry.ts';
import type { StateLayout } from './state.ts';
import type { CarriedCounts } from './stats.ts';

/** What chains are like once a change is settled. */
export interface SettledChain {
  readonly hook: ChainHook;
  readonly carried: CarriedCounts;
  /** The program array that packets go through. */
  readonly array: LoadedMap;
}

/** How the process lets go of a pipeline. */
export type Ending =
  /** Starting it failed: what this process made goes. */
  | 'undo'
  /** All of it goes. */
  | 'stop'
  /** It goes on. */
  | 'leave';

/** The pins of a running pipeline; those of its maps are told of in kept-maps.ts. */
export class Keeper {
  /** What this process found: undefined where the pipeline starts anew. */
  readonly found: Manifest | undefined;
  /** What becomes of the pipeline when it is let go of. */
  ending: Ending = 'undo';
  readonly #name: string;
  readonly #folder: PinFolder;
  readonly #roots: ReadonlyMap<ChainHook, ProgramSpec>;
  /** Pins that were made here. */
  readonly #fresh = new Set<string>();
  /** Loaded here, and not pinned yet. */
  readonly #newRoots = new Map<ChainHook, LoadedProgram>();
  readonly #maps: KeptMaps;
  readonly #arrays: KeptArrays;
  #written: Manifest | undefined;
  /** What was written before a change was announced. */
  #before: Manifest | undefined;
  /** What there is, where writing it failed. */
  #owed: (() => void) | undefined;
  /** Maps that are closed from here on stay what they are. */
  #isOver = false;

  private constructor({ name, roots, migrations, onMigration }: KeptOptions, folder: PinFolder, found: Manifest | undefined) {
    this.#name = name;
    this.#folder = folder;
    this.#roots = roots;
    this.found = found;
    this.#written = found;
    const pin = (map: LoadedMap, as: string): LoadedMap => this.#pinned(map, as);
    this.#arrays = new KeptArrays(folder, pin);
    this.#maps = new KeptMaps({ pipeline: name, folder, found: found?.maps ?? new Map(), migrations, onMigration, pin });
  }

  /**
   * Takes a pipeline's pins, and removes what a process that died had half made. Throws what `PinStore.take` does, ManifestError,
   * ConflictError for pins of another namespace, ChainError for other hooks.
   */
  static async take(instance: PinningInstance, options: KeptOptions): Promise<Keeper> {
    const folder = instance.pins.take(options.name);
    try {
      const found = findKept(folder, options);
      if (found === undefined) await folder.clear();
      return new Keeper(options, folder, found);
    } catch (error) {
      folder.release();
      throw error;
    }
  }

  /** Names of pinned maps that nothing uses. */
  get orphans(): readonly string[] {
    return this.#maps.orphans;
  }

  /** See `KeptMaps.open`. */
  openMap(...[map, spec, create, takesOver]: Parameters<MapKeeper['openMap']>): ReturnType<MapKeeper['openMap']> {
    return this.#maps.open(map, spec, create, takesOver);
  }

  /** A map that is no longer used stays pinned, unless it was made for a change that came to nothing. */
  closeMap(name: string): void {
    if (!this.#isOver) this.#maps.close(name, this.#written?.maps);
  }

  /** Before an update opens maps: how entries come along that are declared otherwise then. */
  beginMigrations(migrations: readonly Migration[], tell?: KeptOptions['onMigration']): void {
    this.#maps.begin(migrations, tell);
  }

  /** Once all maps are open, and before controllers see them: brings the entries of those that are migrated. */
  async migrate(): Promise<void> {
    await this.#maps.copy();
  }

  /** Right before packets are led over: brings what changed since. */
  async follow(): Promise<void> {
    await this.#maps.follow();
  }

  /** Once nothing runs the old any more: brings the last entries, and lets go of the maps that they were in. */
  async endMigrations(): Promise<void> {
    await this.#maps.followLast();
    const pins = this.#maps.endMigrations();
    if (this.#written && pins.length > 0) this.#write({ ...this.#written, maps: this.#maps.all });
    for (const pin of pins) this.#folder.remove(pin);
  }

  /** A chain's map that there is one of: as it was left, or a new one. */
  openOwn(spec: MapSpec, create: (spec: MapSpec) => LoadedMap): LoadedMap {
    const pin = ownPin(spec.name);
    return this.found ? this.#folder.openMap(pin, spec) : this.#pinned(create(spec), pin);
  }

  /** Pins a program array of a generation. */
  keepArray(array: LoadedMap): LoadedMap {
    return this.#arrays.keep(array);
  }

  /** The hook that a program is the root of. */
  rootHook(spec: ProgramSpec): ChainHook | undefined {
    return [...this.#roots].find(([, root]) => root === spec)?.[0];
  }

  /** The root as it was left, where its code is the same, or a new one. */
  async openRoot(hook: ChainHook, spec: ProgramSpec, load: () => Promise<LoadedProgram>): Promise<LoadedProgram> {
    if (this.found?.chains.get(hook)?.root === rootDigest(spec)) return this.#folder.openProgram(rootPin(hook), spec);
    const root = await load();
    this.#newRoots.set(hook, root);
    return root;
  }

  /** Attaches a root. Detaching it means what `ending` says. */
  async attach(program: LoadedProgram, hook: AttachHook): ReturnType<PinFolder['attach']> {
    const attachment = await this.#folder.attach(program, hook);
    return {
      ...attachment,
      detach: async () => {
        if (this.ending === 'undo') await attachment.detach();
        if (this.ending === 'stop') for (const place of this.#folder.links()) if (place.hook === hook) await this.#folder.detach(place);
      },
    };
  }

  /** What was left of a chain; undefined where the pipeline starts anew. */
  left(hook: ChainHook, root: ProgramSpec): ChainLeft | undefined {
    const chain = this.found?.chains.get(hook);
    return chain && { carried: chain.carried, head: (entry) => this.#head(hook, entry, root) };
  }

  /**
   * Before packets are led elsewhere: what there is now and what there will be are both in the manifest. `heads` are the programs that
   * roots lead to until then, by id.
   */
  announce(next: CompiledPipeline, heads: ReadonlyMap<ChainHook, number>): void {
    const written = this.#written;
    if (written === undefined) return;
    this.#before = written;
    // a process that died may have led packets to what it had announced
    const nextOf = (hook: ChainHook, before: StateLayout | undefined): StateLayout | undefined => {
      const state = next.chains.get(hook)?.state;
      return state && before ? bothLayouts(state, before) : state;
    };
    this.#write({
      ...written,
      maps: this.#maps.all,
      crossing: { ...written.crossing, version: next.crossing.version },
      chains: new Map(
        [...written.chains].map(([hook, { head: _, ...chain }]) => {
          const head = heads.get(hook);
          return [hook, { ...chain, next: nextOf(hook, chain.next), ...(head === undefined ? {} : { head }) }];
        }),
      ),
    });
  }

  /** Once nothing runs the old any more: the manifest says what there is, arrays of others go, and links where none should be. */
  async settle(now: CompiledPipeline, settled: () => readonly SettledChain[], interfaces: readonly string[]): Promise<void> {
    this.write(now, settled);
    this.#arrays.sweep(new Set(settled().map(({ array }) => array)));
    for (const place of this.#folder.links()) if (!interfaces.includes(place.interface)) await this.#folder.detach(place);
  }

  /** Writes what there is; where that fails, leaving the pipeline does it. */
  write(now: CompiledPipeline, settled: () => readonly SettledChain[]): void {
    this.#arrays.settle();
    this.#maps.flipped();
    this.#owed = () => this.write(now, settled);
    const { chains, crossing } = now;
    for (const [hook, root] of this.#newRoots) this.#folder.pinProgram(rootPin(hook), root);
    this.#newRoots.clear();
    const changed = Date.now();
    const { began, generation } = this.#written?.age ?? { began: changed, generation: 0 };
    this.#write({
      place: this.#folder.place,
      age: { began, changed, generation: generation + 1 },
      crossing,
      maps: this.#maps.all,
      chains: new Map(
        settled().map(({ hook, carried }) => {
          const compiled = chains.get(hook);
          const root = this.#roots.get(hook);
          if (compiled === undefined || root === undefined) throw new ChainError('absent', `no chain at ${hook}`);
          return [hook, { root: rootDigest(root), layout: compiled.state, next: undefined, carried, depth: compiled.plan.depth }];
        }),
      ),
    });
    this.#owed = undefined;
  }

  /** Deletes a pinned map that nothing uses. Throws ArgumentError for one that is used or not there. */
  forget(name: string): void {
    const pins = this.#maps.forget(name);
    if (this.#written) this.#write({ ...this.#written, maps: this.#maps.all });
    for (const pin of pins) this.#folder.remove(pin);
  }

  /** Announced, and not made: what there was before is all there is. */
  retract(): void {
    const [before, { all }] = [this.#before, this.#maps];
    // maps may have been deleted by name meanwhile
    if (before) this.#write({ ...before, maps: new Map([...before.maps].filter(([name]) => all.has(name))) });
  }

  /** Packets follow what was made here: whatever fails from here on, it stays. */
  stay(): void {
    this.ending = 'leave';
  }

  /** A change came to nothing, and its arrays are closed: their pins go. */
  abandon(): void {
    this.#arrays.abandon();
  }

  /** From here on maps are closed because the process lets go of them. */
  close(): void {
    this.#isOver = true;
  }

  /** Lets go of the pins, by `ending`. */
  async end(): Promise<void> {
    try {
      if (this.ending === 'stop' || (this.ending === 'undo' && this.found === undefined)) await this.#folder.destroy();
      else if (this.ending === 'undo') {
        if (this.found) this.#folder.write(manifestText(this.found));
        for (const pin of this.#fresh) this.#folder.remove(pin);
      } else this.#owed?.();
    } finally {
      this.#folder.release();
    }
  }

  #head(hook: ChainHook, entry: LoadedMap, spec: ProgramSpec): LoadedProgram {
    const head = this.#folder.programAt(entry, 0, spec);
    if (head) return head;
    throw new ChainError('absent', `the pinned chain of pipeline '${this.#name}' at ${hookTitle[hook]} leads nowhere`, {
      hint: `somebody emptied its slot: tailrace stop ${this.#name} removes it with all state`,
    });
  }

  #pinned(map: LoadedMap, pin: string): LoadedMap {
    try {
      this.#folder.pinMap(pin, map);
    } catch (error) {
      map.close();
      throw error;
    }
    this.#fresh.add(pin);
    return map;
  }

  #write(manifest: Manifest): void {
    this.#folder.write(manifestText(manifest));
    this.#written = manifest;
  }
}
