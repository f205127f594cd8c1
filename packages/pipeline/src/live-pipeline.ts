/**
 * The chains of a pipeline as they run. All are loaded before any is attached; they are attached from the stack outwards,
 * so that what a chain counts on is there when its first packet comes. A stage is replaced in every chain that it stands
 * in, or in none.
 */
import { setImmediate } from 'node:timers/promises';
import type { EngineInstance, TestRunOptions } from '@tailrace/bpf';
import type { Crossing } from '@tailrace/compiler';
import type { AnyStage, Chains } from '@tailrace/stage';
import { type ChainBlueprint, type ChainServices, claimsOf, LiveChain, type PreparedChange, type RunResult, rootOf } from './chain.ts';
import { ChainError } from './chain-error.ts';
import { type ChainHook, hookTitle } from './chain-hook.ts';
import { crossingOf } from './crossing.ts';
import { compileChain } from './generation.ts';
import { type PipelinePlan, planPipeline } from './pipeline-plan.ts';
import type { MapClaim } from './registry.ts';
import type { StageCompiler } from './service.ts';
import { layoutState, type StateLayout } from './state.ts';
import type { ChainStats } from './stats.ts';

/** A pipeline that is planned and compiled: everything that needs no engine. */
export interface PipelineBlueprint {
  readonly name: string;
  readonly declared: Chains;
  readonly plan: PipelinePlan;
  readonly crossing: Crossing | undefined;
  readonly chains: readonly ChainBlueprint[];
}

/** Plans and compiles a pipeline. Throws UnsupportedError, ChainError and CompileError. */
export function blueprintOf(compiler: StageCompiler, name: string, declared: Chains): PipelineBlueprint {
  const plan = planPipeline(name, declared, compiler);
  const states = layoutStates(plan);
  const crossing = crossingOf(name, plan.crossing, states.get('xdp'), states.get('tcIngress'));
  const chains = [...plan.chains].map(([hook, chain]): ChainBlueprint => {
    const compiled = compileChain(compiler, chain, states.get(hook) as StateLayout, { crossing });
    return { hook, name: `${name}/${hook}`, compiled, root: rootOf(compiler, hook, `${name}.root`, crossing) };
  });
  return { name, declared, plan, crossing, chains };
}

function layoutStates({ chains, crossing }: PipelinePlan): ReadonlyMap<ChainHook, StateLayout> {
  return new Map([...chains].map(([hook, plan]) => [hook, layoutState(plan, undefined, hook === 'tcIngress' ? crossing : [])]));
}

/** How long batches may go on without a turn of the event loop. */
const TURN_MS = 10;

/** The loaded chains of a pipeline. */
export class LivePipeline {
  readonly #blueprint: PipelineBlueprint;
  readonly #compiler: StageCompiler;
  readonly #instance: EngineInstance;
  readonly #chains: ReadonlyMap<ChainHook, LiveChain>;
  readonly #replacements = new Map<ChainHook, Map<string, AnyStage>>();
  /** When the event loop last had its turn. */
  #turned = performance.now();

  private constructor(blueprint: PipelineBlueprint, compiler: StageCompiler, instance: EngineInstance, chains: readonly LiveChain[]) {
    this.#blueprint = blueprint;
    this.#compiler = compiler;
    this.#instance = instance;
    this.#chains = new Map(chains.map((chain) => [chain.hook, chain]));
  }

  /** Loads every chain; `claims` are maps beside those of the stages: what controllers ask for. */
  static async load(
    blueprint: PipelineBlueprint,
    claims: readonly MapClaim[],
    services: ChainServices & { readonly compiler: StageCompiler },
  ): Promise<LivePipeline> {
    services.registry.hold(claims);
    const chains: LiveChain[] = [];
    for (const chain of blueprint.chains) chains.push(await LiveChain.load(chain, claimsOf(chain.compiled.plan, blueprint.name), services));
    return new LivePipeline(blueprint, services.compiler, services.instance, chains);
  }

  /** The chains that it has, in the order in which packets meet them. */
  get hooks(): readonly ChainHook[] {
    return [...this.#chains.keys()];
  }

  /** What packets follow now. */
  get plan(): PipelinePlan {
    return { ...this.#blueprint.plan, chains: new Map([...this.#chains].map(([hook, { compiled }]) => [hook, compiled.plan])) };
  }

  /** A chain. Throws ChainError where the pipeline has none at that hook. */
  chain(hook: ChainHook): LiveChain {
    const chain = this.#chains.get(hook);
    if (chain === undefined)
      throw new ChainError('absent', `pipeline '${this.#blueprint.name}' has no chain at ${hookTitle[hook]}`, {
        hint: `it has ${this.hooks.join(', ')}`,
      });
    return chain;
  }

  /**
   * Attaches every chain to every interface of the engine: TC egress, TC ingress, then XDP. Dispose of the result to detach
   * them the other way round. All or none.
   */
  async attach(): Promise<{ readonly interfaces: readonly string[] } & AsyncDisposable> {
    await using attached = new AsyncDisposableStack();
    let interfaces: readonly string[] = [];
    for (const chain of [...this.#chains.values()].reverse()) {
      const attachment = await chain.attach();
      attached.defer(() => attachment.detach());
      interfaces = attachment.interfaces;
    }
    const kept = attached.move();
    return { interfaces, [Symbol.asyncDispose]: () => kept.disposeAsync() };
  }

  /** Sends one packet through one chain, off the wire. */
  run(hook: ChainHook, options: TestRunOptions): Promise<RunResult> {
    return this.chain(hook).run(options);
  }

  /** Returns once the runs that were asked for so far have ended. */
  async idle(): Promise<void> {
    await Promise.all([...this.#chains.values()].map((chain) => chain.idle()));
  }

  /** Lets others have their turn, replacements among them, where batches have gone on for long. */
  turn(): Promise<void> | undefined {
    if (performance.now() - this.#turned < TURN_MS) return undefined;
    return setImmediate().then(() => {
      this.#turned = performance.now();
    });
  }

  stats(): ReadonlyMap<ChainHook, ChainStats> {
    return new Map([...this.#chains].map(([hook, chain]) => [hook, chain.stats()]));
  }

  /**
   * Replaces the stage at a place, in every chain that has it. Every packet meets the old stage or the new one; none is
   * lost. Returns once nothing runs the old one any more. An error leaves the old chains whole, but for one of the grace
   * period, which comes after the switch. Calls must not overlap.
   * Throws ChainError where the new stage does not fit, and whatever the compiler and the engine throw.
   */
  async replace(place: string, by: AnyStage): Promise<void> {
    const affected = [...this.#chains.values()].filter(({ compiled }) => compiled.plan.places.has(place));
    if (affected.length === 0) throw this.#absent(place);
    const replacements = new Map(this.#replacements);
    for (const { hook } of affected) replacements.set(hook, new Map(replacements.get(hook)).set(place, by));
    const after = this.#planAfter(replacements);
    const changes: PreparedChange[] = [];
    try {
      for (const chain of affected) changes.push(await this.#prepare(chain, place, after));
      await commitAll(changes);
    } catch (error) {
      for (const change of changes) change.abandon();
      throw error;
    }
    for (const [hook, places] of replacements) this.#replacements.set(hook, places);
    try {
      await this.#instance.gracePeriod();
    } catch (error) {
      for (const change of changes) change.settleLate();
      throw error;
    }
    for (const change of changes) change.settle();
  }

  /** The roots know what crosses from XDP to TC ingress: a replacement can ask for no more. */
  #planAfter(replacements: ReadonlyMap<ChainHook, ReadonlyMap<string, AnyStage>>): PipelinePlan {
    const { name, declared, plan } = this.#blueprint;
    const after = planPipeline(name, declared, { outcomesOf: this.#compiler.outcomesOf, replacements });
    const more = after.crossing.find((field) => !plan.crossing.includes(field));
    if (more !== undefined)
      throw new ChainError('metadata', `TC ingress would need '${more}' from XDP, which it did not when the pipeline was started`, {
        hint: 'stop the pipeline and run it with the new stage',
      });
    return after;
  }

  #prepare(chain: LiveChain, place: string, { chains }: PipelinePlan): Promise<PreparedChange> {
    const plan = chains.get(chain.hook);
    if (plan === undefined) throw this.#absent(place);
    const { crossing, name } = this.#blueprint;
    return chain.prepare(place, plan, { compiler: this.#compiler, crossing, pipeline: name });
  }

  #absent(place: string): ChainError {
    const places = [...new Set([...this.#chains.values()].flatMap(({ compiled }) => [...compiled.plan.places.keys()]))];
    return new ChainError('absent', `'${place}' is not in this pipeline`, {
      hint: `it has ${places.map((name) => `'${name}'`).join(', ')}`,
    });
  }
}

/** Makes all changes, or none. */
async function commitAll(changes: readonly PreparedChange[]): Promise<void> {
  const made: PreparedChange[] = [];
  try {
    for (const change of changes) {
      await change.commit();
      made.push(change);
    }
  } catch (error) {
    for (const change of made.reverse()) await change.revert();
    throw error;
  }
}
