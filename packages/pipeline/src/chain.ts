/**
 * A chain that runs: its small root program, which is attached once and never changes, the entry slot that the root jumps
 * through, the state, and the generation of programs behind the slot. Replacing a stage writes one slot, or builds a
 * generation beside the old one and flips the entry.
 */
import { type Attachment, type LoadedMap, type LoadedProgram, UnsupportedError } from '@tailrace/bpf';
import { XdpVerdict } from '@tailrace/compiler';
import { type AnyStage, type ChainMember, mapsIn } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { Generation, reference, type Workshop } from './generation.ts';
import type { Place } from './graph.ts';
import { type ChainPlan, changeOf, planChain } from './plan.ts';
import type { MapClaim, MapHold } from './registry.ts';
import { LENGTH_OFFSET, layoutState, MISSES_OFFSET, type StateLayout } from './state.ts';
import { ChainCounters, type ChainStats } from './stats.ts';

/** What a packet came to. */
export interface RunResult {
  readonly verdict: XdpVerdict;
  /** The packet as the chain left it. */
  readonly packet: Uint8Array;
  /** Time that the chain took, in ns, as the engine reports it. */
  readonly durationNs: number;
}

/** A planned chain that is about to be loaded. */
export interface ChainBlueprint {
  /** The pipeline's name. */
  readonly pipeline: string;
  readonly members: readonly ChainMember[];
  readonly plan: ChainPlan;
  /** Maps beside those of the stages: what controllers ask for. */
  readonly claims: readonly MapClaim[];
}

/** A loaded chain. The engine's instance closes what it has open. */
export class LiveChain {
  readonly #blueprint: ChainBlueprint;
  readonly #workshop: Workshop;
  readonly #entry: LoadedMap;
  readonly #root: LoadedProgram;
  readonly #counters: ChainCounters;
  readonly #replacements = new Map<string, AnyStage>();
  #plan: ChainPlan;
  #state: StateLayout;
  #maps: MapHold;
  #generation: Generation;

  private constructor(blueprint: ChainBlueprint, workshop: Workshop, parts: Parts) {
    this.#blueprint = blueprint;
    this.#workshop = workshop;
    this.#plan = blueprint.plan;
    this.#entry = parts.entry;
    this.#root = parts.root;
    this.#state = parts.state;
    this.#maps = parts.maps;
    this.#generation = parts.generation;
    this.#counters = new ChainCounters(workshop.state, parts.state);
  }

  /**
   * Loads a chain and makes it ready for packets, without attaching it. Compiles before it makes anything. What it leaves
   * open on an error is closed with the instance.
   */
  static async load(blueprint: ChainBlueprint, services: Omit<Workshop, 'state' | 'name'>): Promise<LiveChain> {
    const { instance, registry, compiler } = services;
    const name = `${blueprint.pipeline}/xdp`;
    const state = layoutState(blueprint.plan);
    const rootSpec = compiler.compileRoot({
      name: `${blueprint.pipeline}.root`,
      array: reference.entry,
      state: { map: reference.state, length: LENGTH_OFFSET, misses: MISSES_OFFSET },
    });
    const maps = registry.hold(claimsOf(blueprint.plan, blueprint));
    const stateMap = instance.createMap({
      name: `${name}.state`,
      type: 'perCpuArray',
      keySize: 4,
      valueSize: state.size,
      maxEntries: 1,
      flags: 0,
    });
    const entry = instance.createMap({ name: `${name}.entry`, type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
    const workshop: Workshop = { ...services, state: stateMap, name };
    const generation = await Generation.load(workshop, blueprint.plan, state);
    const root = await instance.loadProgram(
      rootSpec,
      new Map([
        [reference.entry, entry],
        [reference.state, stateMap],
      ]),
    );
    await entry.setProgram(0, generation.program(blueprint.plan.first));
    return new LiveChain(blueprint, workshop, { entry, root, state, maps, generation });
  }

  /** The plan that packets follow now. */
  get plan(): ChainPlan {
    return this.#plan;
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
    const { compiler, registry, instance } = this.#workshop;
    if (!this.#plan.places.has(place)) throw absent(place, this.#plan);
    const replacements = new Map(this.#replacements).set(place, by);
    const after = planChain(this.#blueprint.members, { exitsOf: compiler.exitsOf, replacements });
    const change = changeOf(this.#plan, after, place);
    const state = layoutState(change.plan, this.#state);
    using undo = new DisposableStack();
    const maps = undo.use(registry.hold(claimsOf(change.plan, this.#blueprint)));
    const baseline = this.#counters.baseline(state);
    const retired = new DisposableStack();
    if (change.kind === 'slot') retired.use(await this.#swapSlot(place, change.slot, change.plan, state));
    else retired.use(await this.#flip(change.plan, state));
    undo.move();
    retired.use(this.#maps);
    this.#maps = maps;
    this.#plan = change.plan;
    this.#state = state;
    this.#replacements.set(place, by);
    try {
      await instance.gracePeriod();
    } finally {
      this.#counters.move(state, baseline);
    }
    // Without a grace period the old programs stay open until the pipeline stops.
    retired.dispose();
  }

  /** Points one slot at a new program. */
  async #swapSlot(name: string, slot: number | undefined, plan: ChainPlan, state: StateLayout): Promise<Disposable> {
    const array = this.#generation.array;
    const program = await Generation.loadOne(this.#workshop, array, plan, state, placeOf(plan, name));
    using undo = new DisposableStack();
    undo.defer(() => program.close());
    await (slot === undefined ? this.#entry.setProgram(0, program) : array.setProgram(slot, program));
    undo.move();
    const old = this.#generation.exchange(name, program);
    return { [Symbol.dispose]: () => old.close() };
  }

  /** Builds a generation and leads all new packets to it. */
  async #flip(plan: ChainPlan, state: StateLayout): Promise<Disposable> {
    const generation = await Generation.load(this.#workshop, plan, state);
    using undo = new DisposableStack();
    undo.use(generation);
    await this.#entry.setProgram(0, generation.program(plan.first));
    undo.move();
    const old = this.#generation;
    this.#generation = generation;
    return old;
  }
}

interface Parts {
  readonly entry: LoadedMap;
  readonly root: LoadedProgram;
  readonly state: StateLayout;
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

function placeOf(plan: ChainPlan, name: string): Place {
  const place = plan.places.get(name);
  if (place === undefined) throw absent(name, plan);
  return place;
}

function absent(name: string, plan: ChainPlan): ChainError {
  return new ChainError('absent', `'${name}' is not in this pipeline`, {
    hint: `it has ${[...plan.places.keys()].map((place) => `'${place}'`).join(', ')}`,
  });
}
