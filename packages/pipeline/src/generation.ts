/**
 * One generation of a chain: a program array of its own and the programs that name it, one for each place. Packets are in
 * one generation from the root's slot to their verdict.
 */
import type { EngineInstance, LoadedMap, LoadedProgram } from '@tailrace/bpf';
import type { CompiledStage, Crossing, Placement } from '@tailrace/compiler';
import type { AnyStage } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { edgesOf, type Place } from './graph.ts';
import { type ChainPlan, edgeKey, edgeOf } from './plan.ts';
import type { MapRegistry } from './registry.ts';
import type { StageCompiler } from './service.ts';
import { type StateLayout, statePlacement } from './state.ts';

/** Map reference names that no stage's map can have. */
export const reference = { array: 'chain:array', state: 'chain:state', entry: 'chain:entry' } as const;

/** A plan with its programs, compiled and not loaded. */
export interface CompiledChain {
  readonly plan: ChainPlan;
  readonly state: StateLayout;
  readonly programs: ReadonlyMap<string, CompiledPlace>;
}
interface CompiledPlace {
  readonly stage: AnyStage;
  /** The placement as text: two places of one stage and text have one program. */
  readonly placement: string;
  readonly compiled: CompiledStage;
}

/**
 * Compiles every place; what is in `before` with the same stage and placement is taken from there. `crossing` is what XDP
 * sends to TC ingress. Throws CompileError.
 */
export function compileChain(
  compiler: StageCompiler,
  plan: ChainPlan,
  state: StateLayout,
  { crossing, before }: { readonly crossing?: Crossing | undefined; readonly before?: CompiledChain } = {},
): CompiledChain {
  const programs = new Map<string, CompiledPlace>();
  for (const [name, place] of plan.places) {
    const placement = { ...placementOf(plan, state, place), ...(plan.hook === 'xdp' && crossing ? { crossing } : {}) };
    const text = JSON.stringify(placement);
    const known = before?.programs.get(name);
    const same = known?.stage === place.stage && known.placement === text ? known.compiled : undefined;
    programs.set(name, { stage: place.stage, placement: text, compiled: same ?? compiler.compileStage(place.stage, { name, placement }) });
  }
  return { plan, state, programs };
}

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
  readonly array: LoadedMap;
  readonly #programs = new Map<string, LoadedProgram>();

  private constructor(array: LoadedMap) {
    this.array = array;
  }

  /** Loads every place and fills the slots; packets do not get there yet. Leaves nothing behind on errors. */
  static async load(workshop: Workshop, { plan, programs }: CompiledChain): Promise<Generation> {
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
    for (const [place, { compiled }] of programs) generation.#programs.set(place, await loadStage(workshop, array, compiled));
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

  /** Loads a program for one place of this generation; no slot leads to it yet. */
  loadOne(workshop: Workshop, { programs }: CompiledChain, place: string): Promise<LoadedProgram> {
    const program = programs.get(place);
    if (program === undefined) throw new ChainError('absent', `'${place}' is not in this chain`);
    return loadStage(workshop, this.array, program.compiled);
  }

  /** Closes programs and array. */
  [Symbol.dispose](): void {
    for (const program of this.#programs.values()) program.close();
    this.#programs.clear();
    this.array.close();
  }
}

function placementOf(plan: ChainPlan, state: StateLayout, place: Place): Placement {
  return {
    array: reference.array,
    // where the body never goes on, any verdict will do
    next: place.outcomes.next ? edgeOf(plan, place, 'next', place.next) : { verdict: 'pass' },
    exits: Object.fromEntries(Object.entries(place.exits).map(([label, to]) => [label, edgeOf(plan, place, `exit:${label}`, to)])),
    ...(place.outcomes.reasons.length > 0 ? { reasons: place.outcomes.reasons } : {}),
    ...statePlacement(plan, state, place, reference.state),
  };
}

function loadStage({ instance, registry, state }: Workshop, array: LoadedMap, { program, maps }: CompiledStage): Promise<LoadedProgram> {
  const references = new Map([...maps].map(([name, map]) => [name, registry.loaded(map)]));
  return instance.loadProgram(program, references.set(reference.array, array).set(reference.state, state));
}
