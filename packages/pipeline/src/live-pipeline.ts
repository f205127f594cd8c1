/**
 * The chains of a pipeline as they run. All are loaded before any is attached; they are attached from the stack outwards,
 * so that what a chain counts on is there when its first packet comes, and changed in that order too. A change is made in
 * every chain that it concerns, or in none.
 */
import { setImmediate } from 'node:timers/promises';
import type { EngineInstance, ProgramSpec, TestRunOptions } from '@tailrace/bpf';
import type { AnyStage, Chains } from '@tailrace/stage';
import { BehaviorSubject, type Observable } from 'rxjs';
import { type ChainServices, LiveChain, type PreparedChange, type RunResult } from './chain.ts';
import { claimsOf, rootOf } from './chain-blueprint.ts';
import { ChainError } from './chain-error.ts';
import { type ChainHook, hookTitle } from './chain-hook.ts';
import { type ChangeOptions, type CompiledPipeline, compilePipeline, type PipelineChange, planChange, planOf } from './change.ts';
import type { Keeper, SettledChain } from './keeper.ts';
import { compiledLeft } from './left.ts';
import { Observation, type ObserveOptions } from './observation.ts';
import { type PipelinePlan, planPipeline } from './pipeline-plan.ts';
import type { MapHold, MapRegistry } from './registry.ts';
import { takenBack } from './rollback.ts';
import type { StageCompiler } from './service.ts';
import { checkAttachedMaps } from './socket-attachment.ts';
import { type ChainStats, type Lost, sumOf } from './stats.ts';
import { changeStep, makeAll, type Step } from './transition.ts';
import { Trial } from './trial.ts';

/** A pipeline that is planned and compiled: everything that needs no engine. */
export interface PipelineBlueprint {
  readonly declared: Chains;
  readonly compiled: CompiledPipeline;
  /** What is attached, by chain. */
  readonly roots: ReadonlyMap<ChainHook, ProgramSpec>;
}

/** Plans and compiles a pipeline. Throws UnsupportedError, ChainError and CompileError. */
export function blueprintOf(compiler: StageCompiler, name: string, declared: Chains, observation = new Observation()): PipelineBlueprint {
  const plan = planPipeline(name, declared, compiler);
  const roots = new Map([...plan.chains.keys()].map((hook) => [hook, rootOf(compiler, hook, `${name}.root`)]));
  return { declared, compiled: compilePipeline(compiler, name, plan, observation), roots };
}

type Replacements = ReadonlyMap<ChainHook, ReadonlyMap<string, AnyStage>>;

/** What a running pipeline is about to become, compiled and not loaded. */
export interface PlannedUpdate {
  readonly declared: Chains;
  readonly replacements: Replacements;
  readonly change: PipelineChange;
  /** Counts of places that are gone are forgotten. */
  readonly forgets: boolean;
}

/** A change that is loaded. Exactly one of `settle`, `settleLate` and `abandon` ends it. */
export interface LoadedUpdate {
  /** Leads packets over, from the stack outwards, all or none. */
  commit(): Promise<void>;
  /** Instead of `commit`, where every chain that differs has a front: both run. */
  trial(): Trial;
  /** After `commit` and a grace period: closes what is old. */
  settle(): Promise<void>;
  /** Without a grace period: what is old stays open until the pipeline stops. */
  settleLate(): void;
  /** Before `commit`, or where that failed: closes what was made. */
  abandon(): void;
}

/** How long batches may go on without a turn of the event loop. */
const TURN_MS = 10;

/** The loaded chains of a pipeline. */
export class LivePipeline {
  readonly #compiler: StageCompiler;
  readonly #instance: EngineInstance;
  readonly #chains: ReadonlyMap<ChainHook, LiveChain>;
  #declared: Chains;
  #compiled: CompiledPipeline;
  #replacements: Replacements = new Map();
  /** When the event loop last had its turn. */
  #turned = performance.now();

  readonly #keeper: Keeper | undefined;
  readonly #registry: MapRegistry;
  readonly #observation$: BehaviorSubject<Observation>;
  /** Those that packets are told of in. */
  #rings: MapHold;
  #interfaces: readonly string[] = [];

  private constructor({ declared, compiled }: PipelineBlueprint, services: LiveServices, chains: readonly LiveChain[], rings: MapHold) {
    this.#declared = declared;
    this.#compiled = compiled;
    this.#compiler = services.compiler;
    this.#instance = services.instance;
    this.#keeper = services.keeper;
    this.#registry = services.registry;
    this.#rings = rings;
    this.#observation$ = new BehaviorSubject(compiled.observation);
    this.#chains = new Map(chains.map((chain) => [chain.hook, chain]));
  }

  /**
   * Loads every chain; where a process left them, they are what that made, and the first update makes them what is declared. What
   * it leaves open on an error is closed with the instance.
   */
  static async load(blueprint: PipelineBlueprint, services: LiveServices): Promise<LivePipeline> {
    const found = services.keeper?.found;
    const compiled = found ? compiledLeft(blueprint.compiled, found) : blueprint.compiled;
    const { name } = compiled;
    const { registry } = services;
    const rings = registry.hold(compiled.observation.claims(name));
    const chains: LiveChain[] = [];
    for (const [hook, chain] of compiled.chains) {
      const root = blueprint.roots.get(hook) as ProgramSpec;
      const left = services.keeper?.left(hook, root);
      const own = { hook, name: `${name}/${hook}`, compiled: chain, root };
      chains.push(await LiveChain.load(own, claimsOf(chain.plan, name), services, left));
    }
    return new LivePipeline({ ...blueprint, compiled }, services, chains, rings);
  }

  /** The chains that it has, in the order in which packets meet them. */
  get hooks(): readonly ChainHook[] {
    return [...this.#chains.keys()];
  }

  /** What packets follow now. */
  get plan(): PipelinePlan {
    return planOf(this.#compiled);
  }

  /** A chain. Throws ChainError where the pipeline has none at that hook. */
  chain(hook: ChainHook): LiveChain {
    const chain = this.#chains.get(hook);
    if (chain === undefined)
      throw new ChainError('absent', `pipeline '${this.#compiled.name}' has no chain at ${hookTitle[hook]}`, {
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
    this.#interfaces = interfaces;
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

  /** What it tells of packets. */
  get observation(): Observation {
    return this.#compiled.observation;
  }

  /** The same, now and after each change; the rings of one are open until the next is told. */
  get observation$(): Observable<Observation> {
    return this.#observation$;
  }

  /** Records that found their ring full, in all chains. */
  lost(): Lost {
    return sumOf([...this.#chains.values()].map((chain) => chain.lost()));
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
    const affected = [...this.plan.chains].filter(([, { places }]) => places.has(place));
    if (affected.length === 0) throw this.#absent(place);
    const replacements = new Map(this.#replacements);
    for (const [hook] of affected) replacements.set(hook, new Map(replacements.get(hook)).set(place, by));
    await this.#make(this.#planned(this.#declared, replacements, false));
  }

  /** Tells of packets otherwise: what is left out stays as it is. Throws ArgumentError for what cannot be, and as `replace`. */
  async observe(asked: ObserveOptions): Promise<void> {
    const observation = this.observation.changed(asked);
    if (observation !== this.observation) await this.#make(this.#planned(this.#declared, this.#replacements, false, { observation }));
  }

  /** Makes a change and waits for the last packets of the old. */
  async #make(planned: PlannedUpdate): Promise<void> {
    const update = await this.load(planned);
    try {
      await update.commit();
    } catch (error) {
      throw await takenBack(error, () => update.abandon());
    }
    try {
      await this.gracePeriod();
    } catch (error) {
      update.settleLate();
      throw error;
    }
    await update.settle();
  }

  /**
   * What other chains at the same hooks make of it: planned and compiled. Throws ChainError where the hooks differ or the chains
   * do not fit, and CompileError.
   */
  planUpdate(declared: Chains, options: Pick<ChangeOptions, 'canary' | 'anew'> = {}): PlannedUpdate {
    return this.#planned(declared, new Map(), true, options);
  }

  /** Loads a change. Leaves nothing behind on errors. Throws whatever the engine throws. */
  async load({ declared, replacements, change, forgets }: PlannedUpdate): Promise<LoadedUpdate> {
    const { name: pipeline } = this.#compiled;
    const { observation } = change.compiled;
    const isTold = observation !== this.observation;
    const rings = isTold ? this.#registry.hold(observation.claims(pipeline)) : undefined;
    const prepared: PreparedChange[] = [];
    const isAstray = (): boolean => prepared.some(({ leads }) => leads);
    const abandon = (): void => {
      using all = new DisposableStack();
      all.defer(() => isAstray() || this.#keeper?.abandon());
      if (rings) all.use(rings);
      for (const one of prepared) all.defer(() => one.abandon());
    };
    try {
      for (const [hook, planned] of change.chains) prepared.push(await this.chain(hook).prepare(planned, { pipeline, forgets }));
    } catch (error) {
      throw await takenBack(error, abandon);
    }
    const settle = (how: 'settle' | 'settleLate'): void => {
      this.#declared = declared;
      this.#replacements = replacements;
      this.#compiled = change.compiled;
      for (const one of prepared) one[how]();
      if (rings === undefined) return;
      const before = this.#rings;
      this.#rings = rings;
      this.#observation$.next(observation);
      before[Symbol.dispose]();
    };
    const announce = (): void =>
      this.#keeper?.announce(change.compiled, new Map([...this.#chains].map(([hook, { head }]) => [hook, head])));
    const retract = (): void => {
      if (isAstray()) this.#keeper?.stay();
      else this.#keeper?.retract();
    };
    return {
      trial: () => new Trial(prepared, { grace: () => this.gracePeriod(), announce, retract }),
      commit: async () => {
        announce();
        try {
          await makeAll(this.#steps(prepared));
        } catch (error) {
          // packets may still be in what they were led back from
          await this.gracePeriod().catch(() => undefined);
          throw await takenBack(error, retract);
        }
      },
      settle: async () => {
        settle('settle');
        await this.#keeper?.settle(this.#compiled, () => this.#kept(), this.#interfaces);
      },
      settleLate: () => {
        settle('settleLate');
        this.#keeper?.write(this.#compiled, () => this.#kept());
      },
      abandon,
    };
  }

  /** Says in the manifest what was loaded: from here on it outlives the process. */
  keep(): void {
    this.#keeper?.write(this.#compiled, () => this.#kept());
  }

  #kept(): readonly SettledChain[] {
    return [...this.#chains.values()].map(({ kept }) => kept);
  }

  /** Returns once no packet is in what was led away from before the call. */
  gracePeriod(): Promise<void> {
    return this.#instance.gracePeriod();
  }

  /** From the stack outwards. Around the change at XDP a front at TC ingress sorts packets of both, and waits for those of the old. */
  #steps(prepared: readonly PreparedChange[]): readonly Step[] {
    const grace = () => this.gracePeriod();
    const nothing = async (): Promise<void> => undefined;
    const fronts = prepared.filter(({ hasFront }) => hasFront);
    return [
      ...prepared.toReversed().flatMap((one): readonly Step[] => {
        const step = changeStep(one, prepared);
        return one.hasFront ? [step, { make: nothing, undo: grace, left: 'what is between XDP and TC ingress' }] : [step];
      }),
      ...(fronts.length > 0 ? [{ make: grace, undo: nothing, left: '' }] : []),
      ...fronts.map((one) => ({ make: () => one.arrive(), undo: nothing, left: '' })),
    ];
  }

  #planned(declared: Chains, replacements: Replacements, forgets: boolean, options: ChangeOptions = {}): PlannedUpdate {
    const { name } = this.#compiled;
    const plan = planPipeline(name, declared, { outcomesOf: this.#compiler.outcomesOf, replacements });
    const [ours, theirs] = [this.hooks, [...plan.chains.keys()]];
    if (ours.join() !== theirs.join())
      throw new ChainError('hook', `pipeline '${name}' runs at ${ours.join(', ')}, and cannot be changed to ${theirs.join(', ')}`, {
        hint: 'stop it and run the other one',
      });
    for (const [hook, after] of plan.chains) checkAttachedMaps(this.plan.chains.get(hook) ?? after, after);
    return { declared, replacements, change: planChange(this.#compiler, this.#compiled, plan, options), forgets };
  }

  #absent(place: string): ChainError {
    const places = [...new Set([...this.plan.chains.values()].flatMap((plan) => [...plan.places.keys()]))];
    return new ChainError('absent', `'${place}' is not in this pipeline`, {
      hint: `it has ${places.map((name) => `'${name}'`).join(', ')}`,
    });
  }
}

/** What a pipeline is loaded with. */
export interface LiveServices extends ChainServices {
  readonly compiler: StageCompiler;
  /** Set where the pipeline outlives its process. */
  readonly keeper?: Keeper | undefined;
}
