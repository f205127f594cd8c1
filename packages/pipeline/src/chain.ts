/**
 * A chain that runs: its small root program, which is attached once and never changes, the entry slot that the root jumps
 * through, the state, and the generation of programs behind the slot. Replacing a stage writes one slot, or builds a
 * generation beside the old one and flips the entry.
 */
import {
  type Attachment,
  type EngineInstance,
  type LoadedMap,
  type LoadedProgram,
  type ProgramSpec,
  UnsupportedError,
} from '@tailrace/bpf';
import { XdpVerdict } from '@tailrace/compiler';
import { type AnyStage, type ChainMember, mapsIn } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { type CompiledChain, compileChain, Generation, reference, type Workshop } from './generation.ts';
import { type ChainPlan, changeOf, planChain } from './plan.ts';
import type { MapClaim, MapHold, MapRegistry } from './registry.ts';
import type { StageCompiler } from './service.ts';
import { LENGTH_OFFSET, layoutState, MISSES_OFFSET } from './state.ts';
import { ChainCounters, type ChainStats } from './stats.ts';

/** What a packet came to. */
export interface RunResult {
  readonly verdict: XdpVerdict;
  /** The packet as the chain left it. */
  readonly packet: Uint8Array;
  /** Time that the chain took, in ns, as the engine reports it. */
  readonly durationNs: number;
}

/** A chain that is planned and compiled: everything that needs no engine. */
export interface ChainBlueprint {
  /** The pipeline's name. */
  readonly pipeline: string;
  readonly members: readonly ChainMember[];
  readonly compiled: CompiledChain;
  readonly root: ProgramSpec;
  /** Maps beside those of the stages: what controllers ask for. */
  readonly claims: readonly MapClaim[];
}

/** Plans and compiles a chain. Throws ChainError and CompileError. */
export function blueprintOf(compiler: StageCompiler, options: Pick<ChainBlueprint, 'pipeline' | 'members' | 'claims'>): ChainBlueprint {
  const plan = planChain(options.members, { exitsOf: compiler.exitsOf });
  const root = compiler.compileRoot({
    name: `${options.pipeline}.root`,
    array: reference.entry,
    state: { map: reference.state, length: LENGTH_OFFSET, misses: MISSES_OFFSET },
  });
  return { ...options, compiled: compileChain(compiler, plan, layoutState(plan)), root };
}

/** A loaded chain. The engine's instance closes what it has open. */
export class LiveChain {
  readonly #blueprint: ChainBlueprint;
  readonly #compiler: StageCompiler;
  readonly #workshop: Workshop;
  readonly #entry: LoadedMap;
  readonly #root: LoadedProgram;
  readonly #counters: ChainCounters;
  readonly #replacements = new Map<string, AnyStage>();
  #compiled: CompiledChain;
  #maps: MapHold;
  #generation: Generation;

  private constructor(blueprint: ChainBlueprint, compiler: StageCompiler, workshop: Workshop, parts: Parts) {
    this.#blueprint = blueprint;
    this.#compiler = compiler;
    this.#workshop = workshop;
    this.#compiled = blueprint.compiled;
    this.#entry = parts.entry;
    this.#root = parts.root;
    this.#maps = parts.maps;
    this.#generation = parts.generation;
    this.#counters = new ChainCounters(workshop.state, blueprint.compiled.state);
  }

  /** Loads a chain and makes it ready for packets, without attaching it. What it leaves open on an error is closed with the instance. */
  static async load(blueprint: ChainBlueprint, services: ChainServices): Promise<LiveChain> {
    const { instance, registry, compiler } = services;
    const { plan, state } = blueprint.compiled;
    const name = `${blueprint.pipeline}/xdp`;
    const maps = registry.hold(claimsOf(plan, blueprint));
    const stateMap = instance.createMap({
      name: `${name}.state`,
      type: 'perCpuArray',
      keySize: 4,
      valueSize: state.size,
      maxEntries: 1,
      flags: 0,
    });
    const entry = instance.createMap({ name: `${name}.entry`, type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
    const workshop: Workshop = { instance, registry, state: stateMap, name };
    const generation = await Generation.load(workshop, blueprint.compiled);
    const references = new Map([[reference.entry, entry] as const, [reference.state, stateMap] as const]);
    const root = await instance.loadProgram(blueprint.root, references);
    await entry.setProgram(0, generation.program(plan.first));
    return new LiveChain(blueprint, compiler, workshop, { entry, root, maps, generation });
  }

  /** The plan that packets follow now. */
  get plan(): ChainPlan {
    return this.#compiled.plan;
  }

  /** Attaches the root to every interface of the engine. */
  attach(): Promise<Attachment> {
    return this.#workshop.instance.attach(this.#root, 'xdp');
  }

  /** Sends one packet through the chain, off the wire. */
  async run(packet: Uint8Array): Promise<RunResult> {
    const result = await this.#root.testRun({ packet });
    const verdict = verdicts.find((name) => XdpVerdict[name] === result.returnValue);
    if (verdict === undefined) throw new UnsupportedError(`the chain returned ${result.returnValue}, which is no verdict of XDP`);
    return { verdict, packet: result.packet, durationNs: result.durationNs };
  }

  stats(): ChainStats {
    return this.#counters.read();
  }

  /**
   * Replaces the stage at a place. Every packet meets the old stage or the new one; none is lost. Returns once nothing runs
   * the old one any more. An error leaves the old chain whole, but for one of the grace period, which comes after the
   * switch. Calls must not overlap.
   * Throws ChainError where the new stage does not fit, and whatever the compiler and the engine throw.
   */
  async replace(place: string, by: AnyStage): Promise<void> {
    const { plan, state } = this.#compiled;
    if (!plan.places.has(place)) throw absent(place, plan);
    const replacements = new Map(this.#replacements).set(place, by);
    const after = planChain(this.#blueprint.members, { exitsOf: this.#compiler.exitsOf, replacements });
    const change = changeOf(plan, after, place);
    const next = compileChain(this.#compiler, change.plan, layoutState(change.plan, state), this.#compiled);
    using undo = new DisposableStack();
    const maps = undo.use(this.#workshop.registry.hold(claimsOf(next.plan, this.#blueprint)));
    const baseline = this.#counters.baseline(next.state);
    const retired = new DisposableStack();
    retired.use(change.kind === 'slot' ? await this.#swapSlot(place, change.slot, next) : await this.#flip(next));
    undo.move();
    retired.use(this.#maps);
    this.#maps = maps;
    this.#compiled = next;
    this.#replacements.set(place, by);
    try {
      await this.#workshop.instance.gracePeriod();
    } finally {
      this.#counters.move(next.state, baseline);
    }
    // Without a grace period the old programs stay open until the pipeline stops.
    retired.dispose();
  }

  /** Points one slot at a new program and returns the old one. */
  async #swapSlot(place: string, slot: number | undefined, next: CompiledChain): Promise<Disposable> {
    const program = await this.#generation.loadOne(this.#workshop, next, place);
    using undo = new DisposableStack();
    undo.defer(() => program.close());
    await (slot === undefined ? this.#entry.setProgram(0, program) : this.#generation.array.setProgram(slot, program));
    undo.move();
    const old = this.#generation.exchange(place, program);
    return { [Symbol.dispose]: () => old.close() };
  }

  /** Builds a generation, leads all new packets to it and returns the old one. */
  async #flip(next: CompiledChain): Promise<Disposable> {
    const generation = await Generation.load(this.#workshop, next);
    using undo = new DisposableStack();
    undo.use(generation);
    await this.#entry.setProgram(0, generation.program(next.plan.first));
    undo.move();
    const old = this.#generation;
    this.#generation = generation;
    return old;
  }
}

/** What a chain is loaded with. */
export interface ChainServices {
  readonly instance: EngineInstance;
  readonly registry: MapRegistry;
  readonly compiler: StageCompiler;
}

interface Parts {
  readonly entry: LoadedMap;
  readonly root: LoadedProgram;
  readonly maps: MapHold;
  readonly generation: Generation;
}

const verdicts = Object.keys(XdpVerdict) as readonly XdpVerdict[];

/** The maps that a plan's stages use. Those of a function are scoped by its name, all others by the pipeline's. */
function claimsOf(plan: ChainPlan, { pipeline, claims }: ChainBlueprint): readonly MapClaim[] {
  const ofStages = [...plan.places.values()].flatMap(({ name, owner, stage }) => {
    const scope = owner === undefined ? pipeline : name.slice(0, name.lastIndexOf('.'));
    return mapsIn(stage.uses).map((map) => ({ map, scope, user: owner === undefined ? name : scope }));
  });
  return [...ofStages, ...claims];
}

function absent(name: string, plan: ChainPlan): ChainError {
  return new ChainError('absent', `'${name}' is not in this pipeline`, {
    hint: `it has ${[...plan.places.keys()].map((place) => `'${place}'`).join(', ')}`,
  });
}
