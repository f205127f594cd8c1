/**
 * One generation of a chain: a program array of its own and the programs that name it, one for each place. Packets are in
 * one generation from the root's slot to their verdict.
 */
import type { EngineInstance, LoadedMap, LoadedProgram } from '@tailrace/bpf';
import type { Placement } from '@tailrace/compiler';
import { ChainError } from './chain-error.ts';
import { edgesOf, type Place } from './graph.ts';
import { type ChainPlan, edgeKey, edgeOf } from './plan.ts';
import type { MapRegistry } from './registry.ts';
import type { StageCompiler } from './service.ts';
import { type StateLayout, statePlacement } from './state.ts';

/** Map reference names that no stage's map can have. */
export const reference = { array: 'chain:array', state: 'chain:state', entry: 'chain:entry' } as const;

/** What programs are made with. */
export interface Workshop {
  readonly instance: EngineInstance;
  readonly compiler: StageCompiler;
  readonly registry: MapRegistry;
  /** The chain's state map. */
  readonly state: LoadedMap;
  /** First part of the names of the chain's own maps, e.g. `edge/xdp`. */
  readonly name: string;
}

/** A generation as it is loaded. */
export class Generation implements Disposable {
  readonly array: LoadedMap;
  readonly #programs = new Map<string, LoadedProgram>();

  private constructor(array: LoadedMap) {
    this.array = array;
  }

  /** Compiles and loads every place and fills the slots; packets do not get there yet. Leaves nothing behind on errors. */
  static async load(workshop: Workshop, plan: ChainPlan, state: StateLayout): Promise<Generation> {
    const compiled = [...plan.places.values()].map((place) => compilePlace(workshop, plan, state, place));
    const { instance, name } = workshop;
    const array = instance.createMap({
      name: `${name}.array`,
      type: 'programArray',
      keySize: 4,
      valueSize: 4,
      maxEntries: Math.max(1, plan.slotCount),
      flags: 0,
    });
    using undo = new DisposableStack();
    const generation = undo.use(new Generation(array));
    for (const { place, ...program } of compiled) generation.#programs.set(place, await loadPlace(workshop, array, program));
    for (const { name: from, ...place } of plan.places.values())
      for (const { label, to } of edgesOf({ name: from, ...place })) {
        const slot = plan.slots.get(edgeKey(from, label));
        if (slot !== undefined && 'place' in to) await array.setProgram(slot, generation.program(to.place));
      }
    undo.move();
    return generation;
  }

  /** The program at a place. Throws ChainError where there is no such place. */
  program(place: string): LoadedProgram {
    const program = this.#programs.get(place);
    if (program === undefined) throw new ChainError('absent', `'${place}' is not in this chain`);
    return program;
  }

  /** Puts another program at a place and returns the one that was there. Slots are the caller's work. */
  exchange(place: string, program: LoadedProgram): LoadedProgram {
    const old = this.program(place);
    this.#programs.set(place, program);
    return old;
  }

  /** Compiles and loads a program for one place of a generation that runs. */
  static async loadOne(workshop: Workshop, array: LoadedMap, plan: ChainPlan, state: StateLayout, place: Place): Promise<LoadedProgram> {
    return loadPlace(workshop, array, compilePlace(workshop, plan, state, place));
  }

  /** Closes programs and array. */
  [Symbol.dispose](): void {
    for (const program of this.#programs.values()) program.close();
    this.#programs.clear();
    this.array.close();
  }
}

type CompiledPlace = ReturnType<typeof compilePlace>;

function compilePlace({ compiler }: Workshop, plan: ChainPlan, state: StateLayout, place: Place) {
  const placement: Placement = {
    array: reference.array,
    next: edgeOf(plan, place, 'next', place.next),
    exits: Object.fromEntries(Object.entries(place.exits).map(([label, to]) => [label, edgeOf(plan, place, `exit:${label}`, to)])),
    state: statePlacement(state, place, reference.state),
  };
  return { place: place.name, ...compiler.compileStage(place.stage, { name: place.name, placement }) };
}

function loadPlace(
  { instance, registry, state }: Workshop,
  array: LoadedMap,
  { program, maps }: Omit<CompiledPlace, 'place'>,
): Promise<LoadedProgram> {
  const references = new Map([...maps].map(([name, map]) => [name, registry.loaded(map)]));
  return instance.loadProgram(program, references.set(reference.array, array).set(reference.state, state));
}
