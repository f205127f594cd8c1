/**
 * One generation of a chain: a program array of its own and the programs that name it, one for each place or fused group.
 * Packets are in one generation from the root's slot to their verdict.
 */
import type { EngineInstance, LoadedMap, LoadedProgram, ProgramSpec } from '@tailrace/bpf';
import type { CompiledStage, Crossing, Edge, FusedPart, Placement, TraceRoot } from '@tailrace/compiler';
import type { AnyStage } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { entryOf, fieldsFrom } from './fusion.ts';
import { type Destination, edgesOf, type Place, placeIn, sameStage } from './graph.ts';
import type { Observation } from './observation.ts';
import { type ChainPlan, checkDepth, edgeKey, edgeOf } from './plan.ts';
import type { MapRegistry } from './registry.ts';
import type { StageCompiler } from './service.ts';
import { MISSES_OFFSET, MISSING_OFFSET, outcomeNames, type StateLayout, statePlacement } from './state.ts';

/** Map reference names that no stage's map can have. */
export const reference = { array: 'chain:array', state: 'chain:state', entry: 'chain:entry', front: 'chain:front' } as const;

/** A plan with its programs, compiled and not loaded. */
export interface CompiledChain {
  readonly plan: ChainPlan;
  readonly state: StateLayout;
  /** By the name of its entry. */
  readonly programs: ReadonlyMap<string, ChainProgram>;
  /** In front of the first place: at TC ingress it takes over what XDP sends, and where packets are traced it marks them. */
  readonly lead: ProgramSpec | undefined;
  /** Where records go, by the names that programs refer to the rings by. */
  readonly rings: Observation['rings'];
}
interface ChainProgram {
  /** Those of its places, its entry first: several where they are fused. */
  readonly stages: readonly AnyStage[];
  /** Names and placements as text: programs of the same stages and text are the same. */
  readonly placement: string;
  readonly compiled: CompiledStage;
}

/** What a chain is compiled with beside its plan. */
export interface CompileChainOptions {
  /** First part of the names of its own programs. */
  readonly pipeline: string;
  /** What XDP sends to TC ingress. */
  readonly crossing: Crossing | undefined;
  readonly observation: Observation;
  /** What is in here with the same stages and placements is taken from here. */
  readonly before?: CompiledChain | undefined;
}

/** Compiles every program. Throws CompileError. */
export function compileChain(
  compiler: StageCompiler,
  planned: ChainPlan,
  state: StateLayout,
  { pipeline, crossing, observation, before }: CompileChainOptions,
): CompiledChain {
  const imports = planned.hook === 'tcIngress' ? crossing : undefined;
  const trace = observation.marking(planned.hook, state);
  // one tail call more, which the plan has where metadata come in
  const plan = trace && !imports ? { ...planned, depth: checkDepth(planned, 1) } : planned;
  const programs = new Map<string, ChainProgram>();
  for (const [name, places] of plan.programs) {
    const parts = places.map((place) => partOf(plan, state, placeIn(plan.places, place), { crossing, observation }));
    const [first, ...others] = parts as [FusedPart, ...FusedPart[]];
    const stages = parts.map(({ stage }) => stage);
    const placement = JSON.stringify(parts.map((part) => [part.name, part.placement]));
    const known = before?.programs.get(name);
    const isSame = known?.placement === placement && known.stages.every((stage, i) => stages[i] && sameStage(stage, stages[i]));
    const compile = (): CompiledStage =>
      others.length === 0
        ? compiler.compileStage(first.stage, { name, placement: first.placement })
        : compiler.compileFused([first, ...others], { name });
    programs.set(name, { stages, placement, compiled: isSame ? known.compiled : compile() });
  }
  return { plan, state, programs, lead: leadOf(compiler, pipeline, plan, { imports, trace }), rings: observation.rings };
}

function leadOf(
  compiler: StageCompiler,
  pipeline: string,
  plan: ChainPlan,
  { imports, trace }: { readonly imports: Crossing | undefined; readonly trace: TraceRoot | undefined },
): ProgramSpec | undefined {
  if (!imports && !trace) return undefined;
  const own = { name: `${pipeline}.${imports ? 'import' : 'trace'}`, array: reference.array, slot: leadSlot(plan) };
  const state = { map: reference.state, misses: MISSES_OFFSET, ...(trace ? { trace } : {}) };
  if (plan.hook === 'xdp') return compiler.compileRoot({ ...own, state });
  return compiler.compileRoot({ ...own, hook: 'tc', state: { ...state, missing: MISSING_OFFSET }, ...(imports ? { imports } : {}) });
}

/** The slot that leads to the first place from what is in front of it, behind those of the edges. */
const leadSlot = ({ slotCount }: ChainPlan): number => slotCount;

/** What programs are loaded with. */
export interface Workshop {
  readonly instance: EngineInstance;
  readonly registry: MapRegistry;
  /** The chain's state map. */
  readonly state: LoadedMap;
  /** First part of the names of the chain's own maps, e.g. `edge/xdp`. */
  readonly name: string;
}

/** A generation as it is loaded. */
export class Generation implements Disposable {
  readonly #array: LoadedMap | undefined;
  readonly #plan: ChainPlan;
  readonly #programs = new Map<string, LoadedProgram>();
  /** In front of the first place. */
  #lead: LoadedProgram | undefined;

  private constructor(array: LoadedMap | undefined, plan: ChainPlan) {
    this.#array = array;
    this.#plan = plan;
  }

  /** Loads every program and fills the slots; packets do not get there yet. Leaves nothing behind on errors. */
  static async load(workshop: Workshop, compiled: CompiledChain): Promise<Generation> {
    const { plan, programs, lead } = compiled;
    const { instance, name } = workshop;
    const array = instance.createMap({
      name: `${name}.array`,
      type: 'programArray',
      keySize: 4,
      valueSize: 4,
      maxEntries: Math.max(1, plan.slotCount + (lead ? 1 : 0)),
      flags: 0,
    });
    using undo = new DisposableStack();
    const generation = undo.use(new Generation(array, plan));
    for (const place of programs.keys()) generation.#programs.set(place, await loadStage(workshop, array, compiled, place));
    for (const { name: from, ...place } of plan.places.values())
      for (const { label, to } of edgesOf({ name: from, ...place })) {
        const slot = plan.slots.get(edgeKey(from, label));
        if (slot !== undefined && 'place' in to) await array.setProgram(slot, generation.program(to.place));
      }
    if (lead) {
      generation.#lead = await instance.loadProgram(lead, ownReferences(workshop, array, compiled));
      await array.setProgram(leadSlot(plan), generation.program(plan.first));
    }
    undo.move();
    return generation;
  }

  /** One that another process loaded: nothing is known of it but what the root leads to. Packets can be led away, and back. */
  static ofOthers(plan: ChainPlan, head: LoadedProgram): Generation {
    const generation = new Generation(undefined, plan);
    generation.#lead = head;
    return generation;
  }

  /** What the root has to lead to. */
  get head(): LoadedProgram {
    return this.#lead ?? this.program(this.#plan.first);
  }

  /** The program array. Throws ChainError for a generation of others. */
  get array(): LoadedMap {
    if (this.#array === undefined) throw new ChainError('absent', 'the program array of this chain is not known here');
    return this.#array;
  }

  /** The slot of this generation that leads to its first place; undefined where the root does. */
  get firstSlot(): number | undefined {
    return this.#lead && leadSlot(this.#plan);
  }

  /** The program that begins at a place. Throws ChainError where none does. */
  program(place: string): LoadedProgram {
    const program = this.#programs.get(place);
    if (program === undefined) throw new ChainError('absent', `'${place}' is not in this chain`);
    return program;
  }

  /** Puts another program where one begins and returns the one that was there. Slots are the caller's work. */
  exchange(place: string, program: LoadedProgram): LoadedProgram {
    const old = this.program(place);
    this.#programs.set(place, program);
    return old;
  }

  /** Loads the program that begins at a place for this generation; no slot leads to it yet. */
  loadOne(workshop: Workshop, compiled: CompiledChain, place: string): Promise<LoadedProgram> {
    return loadStage(workshop, this.array, compiled, place);
  }

  /** Closes programs and array. */
  [Symbol.dispose](): void {
    for (const program of this.#programs.values()) program.close();
    this.#programs.clear();
    this.#lead?.close();
    this.#array?.close();
  }
}

function partOf(
  plan: ChainPlan,
  state: StateLayout,
  place: Place,
  { crossing, observation }: Pick<CompileChainOptions, 'crossing' | 'observation'>,
): FusedPart {
  const crosses = plan.hook === 'xdp' && crossing ? { crossing } : {};
  const edge = (label: string, to: Destination): Edge => {
    const plain = edgeOf(plan, place, label, to);
    if (!('slot' in plain) || !('place' in to) || !isFused(plan, place.name)) return plain;
    const needed = fieldsFrom(plan, to.place).union(new Set(crosses.crossing?.fields.map(({ name }) => name)));
    return { ...plain, carries: [...needed].flatMap((field) => state.fields.get(field) ?? []) };
  };
  const placement: Placement = {
    array: reference.array,
    // where the body never goes on, any verdict will do
    next: place.outcomes.next ? edge('next', place.next) : { verdict: 'pass' },
    exits: Object.fromEntries(Object.entries(place.exits).map(([label, to]) => [label, edge(`exit:${label}`, to)])),
    ...(place.outcomes.reasons.length > 0 ? { reasons: place.outcomes.reasons } : {}),
    ...statePlacement(plan, state, place, reference.state),
    ...observation.placement(plan.hook, state, place.name, outcomeNames(plan, place)),
    ...crosses,
  };
  return { name: place.name, stage: place.stage, placement };
}

function isFused({ programs }: ChainPlan, place: string): boolean {
  return (programs.get(entryOf(programs, place))?.length ?? 0) > 1;
}

async function loadStage(workshop: Workshop, array: LoadedMap, chain: CompiledChain, place: string): Promise<LoadedProgram> {
  const compiled = chain.programs.get(place)?.compiled;
  if (compiled === undefined) throw new ChainError('absent', `'${place}' is not in this chain`);
  const { program, maps } = compiled;
  const references = [...maps].map(([name, map]) => [name, workshop.registry.loaded(map)] as const);
  return workshop.instance.loadProgram(program, new Map([...references, ...ownReferences(workshop, array, chain)]));
}

function ownReferences({ state, registry }: Workshop, array: LoadedMap, { rings }: CompiledChain): ReadonlyMap<string, LoadedMap> {
  const records = [...rings].map(([name, ring]) => [name, registry.loaded(ring)] as const);
  return new Map([[reference.array, array], [reference.state, state], ...records]);
}
