/** Pipelines: stages and functions composed over the hooks. The types check what they can; `run()` checks the rest before it loads. */
import { ArgumentError, type Engine as BpfEngine, UnsupportedError } from '@tailrace/bpf';
import {
  type AnyFused,
  type ChainItem,
  type Chains,
  type CheckChains,
  type Checked,
  chainKeys,
  isFused,
  isMember,
  type LayoutOf,
  type Override,
} from '@tailrace/stage';
import { type CompiledProgram, programsOf } from './compiled-program.ts';
import { Composition } from './composition.ts';
import { type ChainCost, costOf } from './cost.ts';
import { describePipeline, type PipelineDescription } from './description.ts';
import { functionsIn } from './graph.ts';
import { KeptInstance } from './kept-instance.ts';
import { blueprintOf, LivePipeline } from './live-pipeline.ts';
import type { MigrationProgress } from './map-migration.ts';
import type { Migration } from './migration.ts';
import { Observation, type ObserveOptions } from './observation.ts';
import { commitAdoption, keeperOf } from './persistence.ts';
import { membersOf, planPipeline } from './pipeline-plan.ts';
import { Replay } from './replay.ts';
import { tellingBoth } from './rollback.ts';
import type { Running } from './running.ts';
import { runningOf } from './running-pipeline.ts';
import { Clock, Compiler, defaultCompiler, Engine, MapRegistry } from './service.ts';

/** A blueprint: `L` holds the stage names by chain. Running it twice gives two pipelines with maps of their own. */
export interface Pipeline<N extends string, L> {
  readonly name: N;
  readonly chains: Chains;
  /**
   * Plans and compiles the pipeline, opens the engine, loads, starts controllers and attaches, in this order: mistakes in
   * stages and wiring show without privileges.
   * Throws UnsupportedError for chains that the engine cannot run, ChainError, ConflictError, CompileError, and what the engine
   * throws; nothing of it is left behind then.
   */
  run(engine: BpfEngine, options?: RunOptions): Promise<Running<L>>;
  /** Stages and edges of every chain, planned but not loaded. Throws ChainError and CompileError. */
  describe(): PipelineDescription<L>;
  /** The programs of every chain, its root first, compiled but not loaded. Throws what `describe` does. */
  compile(): readonly CompiledProgram[];
  /** What each chain takes, the root aside, in the order in which packets meet them. Throws what `describe` does. */
  cost(): readonly ChainCost[];
  /** The same pipeline, fused otherwise: to compare, or to go over to with `update`. */
  built(options: PipelineOptions): Pipeline<N, L>;
}

/** How a pipeline is built. */
export interface PipelineOptions {
  /**
   * True: every chain is one fused group, see `fuse()`, but for stages out of objects, which stand alone. False: each stage is a
   * program of its own, whatever groups say. By default groups are fused, and nothing else.
   */
  readonly fuse?: boolean;
}

/** How to run a pipeline. */
export interface RunOptions {
  /** Replacements for services (clock, health checker, registry …), made with `override()`. */
  readonly services?: readonly Override[];
  /** Time between two values of `stats$`; default 1,000. */
  readonly statsIntervalMs?: number;
  /**
   * The pipeline outlives its process, under its name: maps, programs and links are pinned, and the next process that runs it goes
   * on with them. Packets go on in between. Default false: all is gone with the process.
   */
  readonly persist?: boolean;
  /**
   * Persistent pipelines: how the entries of maps come along that are declared otherwise than they are pinned, made with `migrate()`.
   * One for each form that a process may find; those that there is nothing to do for are passed over.
   */
  readonly migrate?: readonly Migration[];
  /** Told about every 10 ms how far a migration is, and at the end of each pass over a map. What it throws ends the run. */
  readonly onMigration?: (progress: MigrationProgress) => void;
  /** What it tells of its packets; default counters alone. */
  readonly observe?: ObserveOptions;
}

/**
 * Composes stages and functions over the hooks; everything that types can tell is checked here.
 * Throws ArgumentError for a name that is no identifier and for what is neither stage nor function.
 */
export function pipeline<const N extends string, const D extends Chains>(
  name: N,
  chains: Checked<D, CheckChains<D>>,
  options: PipelineOptions = {},
): Pipeline<N, LayoutOf<D>> {
  if (!/^[A-Za-z][\w-]*$/.test(name))
    throw new ArgumentError(`pipeline: name '${name}', expected a letter, then letters, digits, '_' and '-'`);
  return built(name, checkChains(name, chains as Chains, options));
}

function built<N extends string, L>(name: N, checked: Chains): Pipeline<N, L> {
  return Object.freeze<Pipeline<N, L>>({
    name,
    chains: checked,
    run: (engine, options) => tellingBoth(() => run(name, checked, engine, options)),
    describe: () => describePipeline(name, planPipeline(name, checked, defaultCompiler)),
    compile: () => programsOf(blueprintOf(defaultCompiler, name, checked)),
    cost: () => costOf(blueprintOf(defaultCompiler, name, checked)),
    built: (options) => built(name, checkChains(name, checked, options)),
  });
}

async function run<L>(name: string, chains: Chains, engine: BpfEngine, options: RunOptions = {}): Promise<Running<L>> {
  const { services = [], statsIntervalMs = 1000, persist = false, migrate = [] } = options;
  if (!Number.isFinite(statsIntervalMs) || statsIntervalMs <= 0)
    throw new ArgumentError(`pipeline '${name}': statsIntervalMs is ${statsIntervalMs}, expected more than 0`);
  const observation = new Observation(options.observe);
  if (persist && services.some(({ service }) => service === MapRegistry))
    throw new UnsupportedError(`pipeline '${name}': a MapRegistry of its own makes maps that end with the process, which persist keeps`, {
      hint: 'leave out persist, or override MapStore alone, which sees pinned maps too',
    });
  if (migrate.length > 0 && !persist)
    throw new ArgumentError(`pipeline '${name}': nothing of it outlives a process, so there is nothing to migrate`, {
      hint: 'run it with persist: true',
    });
  const members = [...membersOf(name, chains).values()].flat();
  await using resources = new AsyncDisposableStack();
  const composition = new Composition(engine, functionsIn(members), services);
  resources.defer(() => composition.dispose());
  const compiler = composition.get(Compiler);
  const blueprint = blueprintOf(compiler, name, chains, observation);

  const instance = await composition.get(Engine).open();
  resources.defer(() => instance.close());
  const keeper = persist
    ? await keeperOf(instance, { name, roots: blueprint.roots, migrations: migrate, onMigration: options.onMigration })
    : undefined;
  if (keeper) resources.defer(() => keeper.end());
  composition.bindInstance(instance, keeper);
  const registry = composition.get(MapRegistry);
  resources.defer(() => {
    keeper?.close();
    registry.close();
  });
  composition.hold(registry);
  const live = await LivePipeline.load(blueprint, {
    instance: keeper ? new KeptInstance(instance, keeper) : instance,
    compiler,
    registry,
    keeper,
  });
  const adoption = keeper?.found && (await live.load(live.planUpdate(chains)));
  await keeper?.migrate();
  resources.use(await composition.start(registry));
  if (!adoption) live.keep();
  const attached = resources.use(await live.attach());
  if (keeper && adoption) await commitAdoption(adoption, keeper);
  keeper?.stay();
  if (adoption) {
    await live.gracePeriod();
    await adoption.settle();
    await keeper?.endMigrations();
  }
  const replay = instance.traffic && new Replay(live, instance.traffic);
  if (replay) resources.defer(() => replay.stop());
  return runningOf({
    name,
    interfaces: attached.interfaces,
    live,
    composition,
    registry,
    clock: composition.get(Clock),
    statsIntervalMs,
    replay,
    keeper,
    resources: resources.move(),
  });
}

function checkChains(name: string, chains: Chains, { fuse }: PipelineOptions): Chains {
  // the outermost group holds
  const whole = (members: readonly ChainItem[]): readonly ChainItem[] =>
    fuse === undefined || members.length === 0
      ? members
      : [Object.freeze<AnyFused>({ kind: 'fused', members, apart: fuse ? 'objects' : 'all' })];
  for (const [key, members] of Object.entries(chains)) {
    if (!chainKeys.some((known) => known === key))
      throw new ArgumentError(`pipeline '${name}': '${key}' is not a chain, expected ${chainKeys.join(', ')}`);
    if (!Array.isArray(members) || !members.every((member) => isMember(member) || isFused(member)))
      throw new ArgumentError(`pipeline '${name}': ${key} holds something that is neither a stage nor a function`);
  }
  return Object.freeze(Object.fromEntries(Object.entries(chains).map(([key, members]) => [key, Object.freeze(whole([...members]))])));
}
