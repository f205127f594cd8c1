/**
 * A chain that runs: its small root program, which is attached once and never changes, the entry slot that the root jumps
 * through, the state, and the generation of programs behind the slot. Replacing a stage writes one slot, or builds a
 * generation beside the old one and flips the entry; live-pipeline.ts says when.
 */
import {
  type Attachment,
  type BatchPacket,
  type BatchResult,
  type EngineInstance,
  type LoadedMap,
  type LoadedProgram,
  type ProgramSpec,
  type TestRunOptions,
  UnsupportedError,
} from '@tailrace/bpf';
import type { Crossing } from '@tailrace/compiler';
import { mapsIn } from '@tailrace/stage';
import { type ChainHook, type ChainVerdict, hookTitle, programHook, verdictOf } from './chain-hook.ts';
import { type CompiledChain, compileChain, Generation, reference, type Workshop } from './generation.ts';
import { type PathStep, pathOf } from './path.ts';
import { type ChainPlan, changeOf } from './plan.ts';
import type { MapClaim, MapHold, MapRegistry } from './registry.ts';
import type { StageCompiler } from './service.ts';
import { LENGTH_OFFSET, layoutState, MISSES_OFFSET, MISSING_OFFSET } from './state.ts';
import { ChainCounters, type ChainStats } from './stats.ts';

/** What a packet came to. `N` are the names of the stages that it can have met. */
export interface RunResult<N extends string = string> {
  readonly verdict: ChainVerdict;
  /**
   * The stages that it went through, in order, and how it left each: the last step led to the verdict. Read off the chain's
   * counters, so `undefined` where those do not tell it alone: other packets passed meanwhile and took other ways, or a stage
   * was being replaced.
   */
  readonly path: readonly PathStep<N>[] | undefined;
  /** The packet as the chain left it. */
  readonly packet: Uint8Array;
  /** Time that the chain took, in ns, as the engine reports it. */
  readonly durationNs: number;
}

/** What came of a packet of a batch in one chain. */
export interface ChainBatchResult extends BatchResult {
  readonly verdict: ChainVerdict;
  readonly path?: readonly PathStep[];
}

/** A chain that is planned and compiled: everything that needs no engine. */
export interface ChainBlueprint {
  readonly hook: ChainHook;
  /** First part of the names of the chain's own maps, e.g. `edge/xdp`. */
  readonly name: string;
  readonly compiled: CompiledChain;
  readonly root: ProgramSpec;
}

/** The root of a chain: a small stable program that is attached. */
export function rootOf(compiler: StageCompiler, hook: ChainHook, name: string, crossing: Crossing | undefined): ProgramSpec {
  const [array, map, misses] = [reference.entry, reference.state, MISSES_OFFSET];
  if (programHook(hook) === 'xdp') return compiler.compileRoot({ name, array, state: { map, misses, length: LENGTH_OFFSET } });
  if (hook !== 'tcIngress' || !crossing) return compiler.compileRoot({ hook: 'tc', name, array, state: { map, misses } });
  return compiler.compileRoot({ hook: 'tc', name, array, state: { map, misses, missing: MISSING_OFFSET }, imports: crossing });
}

/** A change of a chain that is loaded and not made yet. Exactly one of `settle` and `abandon` ends it. */
export interface PreparedChange {
  /** Leads new packets to the new stage. */
  commit(): Promise<void>;
  /** After `commit`: leads them back to the old one. */
  revert(): Promise<void>;
  /** After `commit` and a grace period: counts go on with the new layout, what is old is closed. */
  settle(): void;
  /** Without a grace period: as `settle`, but what is old stays open until the pipeline stops. */
  settleLate(): void;
  /** Closes what was made for the change; where packets follow it, since `revert` failed, only the pipeline's stop does. */
  abandon(): void;
}

/** A loaded chain. The engine's instance closes what it has open. */
export class LiveChain {
  readonly hook: ChainHook;
  readonly #workshop: Workshop;
  readonly #entry: LoadedMap;
  readonly #root: LoadedProgram;
  readonly #counters: ChainCounters;
  #compiled: CompiledChain;
  /** What packets that come now follow, as an object of its own after each change; nothing while one is made. */
  #route: { readonly compiled: CompiledChain } | undefined;
  /** The test run that goes on, or the last one. */
  #runs: Promise<unknown> = Promise.resolve();
  #maps: MapHold;
  #generation: Generation;

  private constructor(blueprint: ChainBlueprint, workshop: Workshop, parts: Parts) {
    this.hook = blueprint.hook;
    this.#workshop = workshop;
    this.#compiled = blueprint.compiled;
    this.#route = { compiled: blueprint.compiled };
    this.#entry = parts.entry;
    this.#root = parts.root;
    this.#maps = parts.maps;
    this.#generation = parts.generation;
    this.#counters = new ChainCounters(blueprint.hook, workshop.state, blueprint.compiled.state);
  }

  /** Loads a chain and makes it ready for packets, without attaching it. What it leaves open on an error is closed with the instance. */
  static async load(blueprint: ChainBlueprint, claims: readonly MapClaim[], services: ChainServices): Promise<LiveChain> {
    const { instance, registry } = services;
    const { name, compiled } = blueprint;
    const maps = registry.hold(claims);
    const state = instance.createMap({
      name: `${name}.state`,
      type: 'perCpuArray',
      keySize: 4,
      valueSize: compiled.state.size,
      maxEntries: 1,
      flags: 0,
    });
    const entry = instance.createMap({ name: `${name}.entry`, type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
    const workshop: Workshop = { instance, registry, state, name };
    const generation = await Generation.load(workshop, compiled);
    const references = new Map([[reference.entry, entry] as const, [reference.state, state] as const]);
    const root = await instance.loadProgram(blueprint.root, references);
    await entry.setProgram(0, generation.program(compiled.plan.first));
    return new LiveChain(blueprint, workshop, { entry, root, maps, generation });
  }

  /** What packets follow now. */
  get compiled(): CompiledChain {
    return this.#compiled;
  }

  /** Attaches the root to every interface of the engine. */
  attach(): Promise<Attachment> {
    return this.#workshop.instance.attach(this.#root, this.hook);
  }

  /** Sends one packet through the chain, off the wire. Runs go one after the other: what they count is told apart. */
  run(options: TestRunOptions): Promise<RunResult> {
    const mine = { ...options, packet: Uint8Array.from(options.packet) };
    const run = this.#runs.then(() => this.#run(mine));
    this.#runs = run.catch(() => undefined);
    return run;
  }

  /**
   * Sends packets through the chain, where the engine runs packets itself; `wantsPath` runs them one by one. Bytes are good until
   * the next batch. Throws UnsupportedError where packets come by interfaces only.
   */
  runBatch(packets: readonly BatchPacket[], wantsPath: boolean): readonly ChainBatchResult[] {
    const root = this.#root;
    const runBatch = root.runBatch?.bind(root);
    if (runBatch === undefined)
      throw new UnsupportedError(`the ${this.#workshop.instance.kind} engine takes packets from its interfaces, none can be injected`, {
        hint: 'run the pipeline with userspace(), or use run() for single packets',
      });
    if (!wantsPath) return runBatch(packets).map((result) => this.#batchResult(result));
    return packets.map((packet) => {
      const [route, before] = [this.#route, this.#counters.snapshot()];
      const [result] = runBatch([packet]) as readonly [BatchResult];
      const { verdict, metadata, redirect, ...rest } = this.#batchResult(result);
      const path = route && pathOf(route.compiled, verdict, before, this.#counters.snapshot());
      // the next packet takes this one's place
      return { ...rest, verdict, redirect, packet: rest.packet.slice(), metadata: metadata?.slice(), ...(path ? { path } : {}) };
    });
  }

  #batchResult({ returnValue, packet, metadata, redirect }: BatchResult): ChainBatchResult {
    return { returnValue, packet, metadata, redirect, verdict: this.#verdict(returnValue) };
  }

  /** Returns once the runs that were asked for so far have ended. */
  async idle(): Promise<void> {
    await this.#runs;
  }

  stats(): ChainStats {
    return this.#counters.read();
  }

  /**
   * Compiles and loads what a change of the stage at `place` needs: one program where a slot will do, otherwise a
   * generation. `after` is the plan to get to. Leaves nothing behind on errors. Changes must not overlap.
   */
  async prepare(place: string, after: ChainPlan, { compiler, crossing, pipeline }: ChangeOptions): Promise<PreparedChange> {
    const { plan, state } = this.#compiled;
    const change = changeOf(plan, after, place);
    const next = compileChain(compiler, change.plan, layoutState(change.plan, state), { crossing, before: this.#compiled });
    using undo = new DisposableStack();
    const maps = undo.use(this.#workshop.registry.hold(claimsOf(next.plan, pipeline)));
    const baseline = this.#counters.baseline(next.state);
    const way = change.kind === 'slot' ? await this.#slotChange(place, change.slot, next) : await this.#flip(next);
    undo.move();
    let committed = false;
    const settle = (): DisposableStack => {
      const retired = new DisposableStack();
      retired.use(way.finish());
      retired.use(this.#maps);
      this.#maps = maps;
      this.#compiled = next;
      this.#route = { compiled: next };
      this.#counters.move(next.state, baseline);
      return retired;
    };
    return {
      commit: async () => {
        this.#route = undefined;
        await way.commit();
        committed = true;
      },
      revert: async () => {
        await way.revert();
        committed = false;
      },
      settle: () => settle().dispose(),
      settleLate: () => void settle(),
      abandon: () => {
        if (committed) return;
        this.#route ??= { compiled: this.#compiled };
        way.abandon();
        maps[Symbol.dispose]();
      },
    };
  }

  async #run(options: TestRunOptions): Promise<RunResult> {
    const [route, before] = [this.#route, this.#counters.snapshot()];
    const { returnValue, packet, durationNs } = await this.#root.testRun(options);
    const verdict = this.#verdict(returnValue);
    const path = route && route === this.#route ? pathOf(route.compiled, verdict, before, this.#counters.snapshot()) : undefined;
    return { verdict, path, packet, durationNs };
  }

  #verdict(returnValue: number): ChainVerdict {
    const verdict = verdictOf(this.hook, returnValue);
    if (verdict !== undefined) return verdict;
    throw new UnsupportedError(`the chain returned ${returnValue}, which is no verdict of ${hookTitle[this.hook]}`);
  }

  /** Points one slot at a new program. */
  async #slotChange(place: string, slot: number | undefined, next: CompiledChain): Promise<Way> {
    const generation = this.#generation;
    const [old, program] = [generation.program(place), await generation.loadOne(this.#workshop, next, place)];
    const lead = (to: LoadedProgram) => (slot === undefined ? this.#entry.setProgram(0, to) : generation.array.setProgram(slot, to));
    return {
      commit: () => lead(program),
      revert: () => lead(old),
      finish() {
        generation.exchange(place, program);
        return { [Symbol.dispose]: () => old.close() };
      },
      abandon: () => program.close(),
    };
  }

  /** Builds a generation that the entry's slot will lead to. */
  async #flip(next: CompiledChain): Promise<Way> {
    const [old, first] = [this.#generation, this.#compiled.plan.first];
    const generation = await Generation.load(this.#workshop, next);
    return {
      commit: () => this.#entry.setProgram(0, generation.program(next.plan.first)),
      revert: () => this.#entry.setProgram(0, old.program(first)),
      finish: () => {
        this.#generation = generation;
        return old;
      },
      abandon: () => generation[Symbol.dispose](),
    };
  }
}

/** How packets are led from the old to the new. */
interface Way {
  commit(): Promise<void>;
  revert(): Promise<void>;
  /** Takes the new for the present; returns the old, to be closed. */
  finish(): Disposable;
  abandon(): void;
}

/** What a change is compiled with. */
export interface ChangeOptions {
  readonly compiler: StageCompiler;
  readonly crossing: Crossing | undefined;
  /** The pipeline's name. */
  readonly pipeline: string;
}

/** What a chain is loaded with. */
export interface ChainServices {
  readonly instance: EngineInstance;
  readonly registry: MapRegistry;
}

interface Parts {
  readonly entry: LoadedMap;
  readonly root: LoadedProgram;
  readonly maps: MapHold;
  readonly generation: Generation;
}

/** The maps that a plan's stages use. Those of a function are scoped by its name, all others by the pipeline's. */
export function claimsOf(plan: ChainPlan, pipeline: string): readonly MapClaim[] {
  return [...plan.places.values()].flatMap(({ name, owner, stage }) => {
    const scope = owner === undefined ? pipeline : name.slice(0, name.lastIndexOf('.'));
    return mapsIn(stage.uses).map((map) => ({ map, scope, user: owner === undefined ? name : scope }));
  });
}
