/**
 * One generation of a chain: a program array of its own and the programs that name it, one for each place or fused group.
 * Packets are in one generation from the root's slot to their verdict.
 */
import type { EngineInstance, LoadedMap, LoadedProgram, ProgramSpec } from '@tailrace/bpf';
import type { CompiledStage, Crossing, Edge, FusedPart, Placement } from '@tailrace/compiler';
import type { AnyStage } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { entryOf, fieldsFrom } from './fusion.ts';
import { type Destination, edgesOf, type Place, placeIn, sameStage } from './graph.ts';
import type { Observation } from './observation.ts';
import { type ChainPlan, edgeKey, edgeOf } from './plan.ts';
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
  /** TC ingress: takes over what XDP sends, in front of the first place. */
  readonly importer: ProgramSpec | undefined;
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
  plan: ChainPlan,
  state: StateLayout,
  { pipeline, crossing, observation, before }: CompileChainOptions,
): CompiledChain {
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
  const imports = plan.hook === 'tcIngress' ? crossing : undefined;
  return { plan, state, programs, importer: imports && importerOf(compiler, `${pipeline}.import`, importSlot(plan), imports) };
}

function importerOf(compiler: StageCompiler, name: string, slot: number, imports: Crossing): ProgramSpec {
  const state = { map: reference.state, misses: MISSES_OFFSET, missing: MISSING_OFFSET };
  return compiler.compileRoot({ hook: 'tc', name, array: reference.array, slot, state, imports });
}

/** The slot that leads from the importer to the first place, behind those of the edges. */
const importSlot = ({ slotCount }: ChainPlan): number => slotCount;

/** What programs are loaded with. */
export interface Workshop {
  readonly instance: EngineInstance;
  readonly registry: MapRegistry;
  /** The chain's state map. */
  readonly state: LoadedMap;
  /** Where records go, by the names that programs refer to the rings by. */
  readonly rings: ReadonlyMap<string, LoadedMap>;
  /** First part of the names of the chain's own maps, e.g. `edge/xdp`. */
  readonly name: string;
}

/** A generation as it is loaded. */
export class Generation implements Disposable {
  readonly #array: LoadedMap | undefined;
  readonly #plan: ChainPlan;
  readonly #programs = new Map<string, LoadedProgram>();
  /** In front of the first place. */
  #importer: LoadedProgram | undefined;

  private constructor(array: LoadedMap | undefined, plan: ChainPlan) {
    this.#array = array;
    this.#plan = plan;
  }

  /** Loads every program and fills the slots; packets do not get there yet. Leaves nothing behind on errors. */
  static async load(workshop: Workshop, { plan, programs, importer }: CompiledChain): Promise<Generation> {
    const { instance, name } = workshop;
    const array = instance.createMap({
      name: `${name}.array`,
      type: 'programArray',
      keySize: 4,
      valueSize: 4,
      maxEntries: Math.max(1, plan.slotCount + (importer ? 1 : 0)),
      flags: 0,
    });
    using undo = new DisposableStack();
    const generation = undo.use(new Generation(array, plan));
    for (const [place, { compiled }] of programs) generation.#programs.set(place, await loadStage(workshop, array, compiled));
    for (const { name: from, ...place } of plan.places.values())
      for (const { label, to } of edgesOf({ name: from, ...place })) {
        const slot = plan.slots.get(edgeKey(from, label));
        if (slot !== undefined && 'place' in to) await array.setProgram(slot, generation.program(to.place));
      }
    if (importer) {
      generation.#importer = await workshop.instance.loadProgram(importer, ownReferences(workshop, array));
      await array.setProgram(importSlot(plan), generation.program(plan.first));
    }
    undo.move();
    return generation;
  }

  /** One that another process loaded: nothing is known of it but what the root leads to. Packets can be led away, and back. */
  static ofOthers(plan: ChainPlan, head: LoadedProgram): Generation {
    const generation = new Generation(undefined, plan);
    generation.#importer = head;
    return generation;
  }

  /** What the root has to lead to. */
  get head(): LoadedProgram {
    return this.#importer ?? this.program(this.#plan.first);
  }

  /** The program array. Throws ChainError for a generation of others. */
  get array(): LoadedMap {
    if (this.#array === undefined) throw new ChainError('absent', 'the program array of this chain is not known here');
    return this.#array;
  }

  /** The slot of this generation that leads to its first place; undefined where the root does. */
  get firstSlot(): number | undefined {
    return this.#importer && importSlot(this.#plan);
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
  loadOne(workshop: Workshop, { programs }: CompiledChain, place: string): Promise<LoadedProgram> {
    const program = programs.get(place);
    if (program === undefined) throw new ChainError('absent', `'${place}' is not in this chain`);
    return loadStage(workshop, this.array, program.compiled);
  }

  /** Closes programs and array. */
  [Symbol.dispose](): void {
    for (const program of this.#programs.values()) program.close();
    this.#programs.clear();
    this.#importer?.close();
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
    ...observation.placement(plan.hook, place.name, outcomeNames(plan, place)),
    ...crosses,
  };
  return { name: place.name, stage: place.stage, placement };
}

function isFused({ programs }: ChainPlan, place: string): boolean {
  return (programs.get(entryOf(programs, place))?.length ?? 0) > 1;
}

function loadStage(workshop: Workshop, array: LoadedMap, { program, maps }: CompiledStage): Promise<LoadedProgram> {
  const references = [...maps].map(([name, map]) => [name, workshop.registry.loaded(map)] as const);
  return workshop.instance.loadProgram(program, new Map([...references, ...ownReferences(workshop, array)]));
}

function ownReferences({ state, rings }: Workshop, array: LoadedMap): ReadonlyMap<string, LoadedMap> {
  return new Map([[reference.array, array], [reference.state, state], ...rings]);
}
