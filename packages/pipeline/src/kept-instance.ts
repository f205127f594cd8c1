/** An engine as the chains of a pipeline see it that outlives its process: what they make is pinned, what is there already is opened. */
import type { AttachHook, Attachment, EngineInstance, LoadedMap, LoadedProgram, MapSpec, ProgramSpec } from '@tailrace/bpf';
import type { Keeper } from './keeper.ts';

/** Gives chains what was kept of them. Only their own maps are made through it, and closing it is the engine's. */
export class KeptInstance implements EngineInstance {
  readonly #instance: EngineInstance;
  readonly #keeper: Keeper;

  constructor(instance: EngineInstance, keeper: Keeper) {
    this.#instance = instance;
    this.#keeper = keeper;
  }

  get kind(): EngineInstance['kind'] {
    return this.#instance.kind;
  }

  get cpus(): number {
    return this.#instance.cpus;
  }

  createMap(spec: MapSpec): LoadedMap {
    const create = (wanted: MapSpec): LoadedMap => this.#instance.createMap(wanted);
    // each generation has arrays of its own; there is one state and one entry
    const isOne = spec.type !== 'programArray' || spec.name.endsWith('.entry');
    return isOne ? this.#keeper.openOwn(spec, create) : this.#keeper.keepArray(create(spec));
  }

  async loadProgram(spec: ProgramSpec, maps: ReadonlyMap<string, LoadedMap>): Promise<LoadedProgram> {
    const load = (): Promise<LoadedProgram> => this.#instance.loadProgram(spec, maps);
    const hook = this.#keeper.rootHook(spec);
    return hook === undefined ? load() : this.#keeper.openRoot(hook, spec, load);
  }

  attach(program: LoadedProgram, hook: AttachHook): Promise<Attachment> {
    return this.#keeper.attach(program, hook);
  }

  openRing(...args: Parameters<EngineInstance['openRing']>): ReturnType<EngineInstance['openRing']> {
    return this.#instance.openRing(...args);
  }

  gracePeriod(): Promise<void> {
    return this.#instance.gracePeriod();
  }

  close(): Promise<void> {
    return this.#instance.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
