/** A running pipeline becomes another one: chains, maps, functions and their controllers, in one step or not at all. */
import type { Chains, Override } from '@tailrace/stage';
import { claimsOf } from './chain-blueprint.ts';
import { ChainError } from './chain-error.ts';
import type { PipelineChange } from './change.ts';
import type { Composition, FunctionsChange } from './composition.ts';
import { functionsIn } from './graph.ts';
import type { Keeper } from './keeper.ts';
import type { LivePipeline, LoadedUpdate } from './live-pipeline.ts';
import type { MigrationProgress } from './map-migration.ts';
import { MapTakeover } from './map-takeover.ts';
import type { Migration } from './migration.ts';
import type { MapRegistry } from './registry.ts';
import type { CanaryTraffic } from './selector.ts';
import { EngineInstance } from './service.ts';

/** How to go over to another pipeline. */
export interface UpdateOptions {
  /** Replacements for services of functions that come with it; those of the run hold for them too. */
  readonly services?: readonly Override[];
  /**
   * How the entries of maps come along that the next pipeline has in another form, made with `migrate()`: from a map of the pipeline
   * that runs to one that it does not have, of the same name.
   */
  readonly migrate?: readonly Migration[];
  /** Told about every 10 ms how far a migration is, and at the end of each pass over a map. What it throws ends the update. */
  readonly onMigration?: (progress: MigrationProgress) => void;
}

/** What runs. */
export interface UpdateParts {
  readonly name: string;
  readonly live: LivePipeline;
  readonly composition: Composition;
  readonly registry: MapRegistry;
  /** Set where the pipeline outlives its process. */
  readonly keeper?: Keeper | undefined;
}

/** What it is to become. */
export interface NextPipeline {
  readonly name: string;
  readonly chains: Chains;
}

/**
 * Updates a pipeline. Until packets are led over an error leaves everything as it was; one behind that, of the grace period, of the
 * last entries of a map or of a controller that stops, leaves the new pipeline at work.
 */
export async function updatePipeline(parts: UpdateParts, next: NextPipeline, options: UpdateOptions): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const { update, functions, takeover } = await prepareUpdate(parts, next, options, undo);
  await takeover.follow();
  await update.commit();
  undo.move();
  using _held = takeover;
  try {
    await parts.live.gracePeriod();
  } catch (error) {
    update.settleLate();
    functions.settleLate();
    throw error;
  }
  try {
    await update.settle();
    await takeover.finish();
  } finally {
    await functions.settle();
  }
}

/** The next pipeline, loaded. */
export interface PreparedUpdate {
  readonly update: LoadedUpdate;
  readonly functions: FunctionsChange;
  readonly takeover: MapTakeover;
  /** What becomes of the chains. */
  readonly change: PipelineChange;
}

/** Loads the next pipeline, brings entries of maps and starts its controllers; no packet gets there yet. What was made is closed with `undo`. */
export async function prepareUpdate(
  parts: UpdateParts,
  next: NextPipeline,
  { services = [], migrate = [], onMigration }: UpdateOptions,
  undo: AsyncDisposableStack,
  canary?: CanaryTraffic,
): Promise<PreparedUpdate> {
  const { name, live, composition, registry, keeper } = parts;
  // maps, pins and what crosses from XDP go by the name
  if (next.name !== name)
    throw new ChainError('absent', `pipeline '${name}' cannot become '${next.name}': what it keeps goes by its name`, {
      hint: `declare the next one as pipeline('${name}', …)`,
    });
  const planned = live.planUpdate(next.chains, { canary, ...(migrate.length > 0 ? { anew: true } : {}) });
  const functions = composition.change(functionsIn(Object.values(next.chains).flat()), services);
  undo.defer(() => functions.abandon());
  const chains = [...planned.change.compiled.chains.values()].map(({ plan }) => claimsOf(plan, name));
  const claims = [...chains, ...functions.claims];
  const takeover = undo.use(
    MapTakeover.begin({ name, instance: composition.get(EngineInstance), registry, keeper }, claims, migrate, onMigration),
  );
  const update = await live.load(planned);
  undo.defer(() => update.abandon());
  await takeover.copy();
  functions.start(registry);
  return { update, functions, takeover, change: planned.change };
}
