/** A running pipeline becomes another one: chains, maps, functions and their controllers, in one step or not at all. */
import type { Chains, Override } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import type { PipelineChange } from './change.ts';
import type { Composition, FunctionsChange } from './composition.ts';
import { functionsIn } from './graph.ts';
import type { Keeper } from './keeper.ts';
import type { LivePipeline, LoadedUpdate } from './live-pipeline.ts';
import type { MapRegistry } from './registry.ts';
import type { CanaryTraffic } from './selector.ts';

/** How to go over to another pipeline. */
export interface UpdateOptions {
  /** Replacements for services of functions that come with it; those of the run hold for them too. */
  readonly services?: readonly Override[];
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
 * Updates a pipeline. Until packets are led over an error leaves everything as it was; one behind that, of the grace period or of
 * a controller that stops, leaves the new pipeline at work.
 */
export async function updatePipeline(parts: UpdateParts, next: NextPipeline, options: UpdateOptions): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const { update, functions } = await prepareUpdate(parts, next, options, undo);
  await update.commit();
  undo.move();
  try {
    await parts.live.gracePeriod();
  } catch (error) {
    update.settleLate();
    functions.settleLate();
    throw error;
  }
  try {
    await update.settle();
  } finally {
    await functions.settle();
  }
}

/** The next pipeline, loaded. */
export interface PreparedUpdate {
  readonly update: LoadedUpdate;
  readonly functions: FunctionsChange;
  /** What becomes of the chains. */
  readonly change: PipelineChange;
}

/** Loads the next pipeline and starts its controllers; no packet gets there yet. What was made is closed with `undo`. */
export async function prepareUpdate(
  parts: UpdateParts,
  next: NextPipeline,
  { services = [] }: UpdateOptions,
  undo: AsyncDisposableStack,
  canary?: CanaryTraffic,
): Promise<PreparedUpdate> {
  const { name, live, composition, registry } = parts;
  // maps, pins and what crosses from XDP go by the name
  if (next.name !== name)
    throw new ChainError('absent', `pipeline '${name}' cannot become '${next.name}': what it keeps goes by its name`, {
      hint: `declare the next one as pipeline('${name}', …)`,
    });
  const planned = live.planUpdate(next.chains, canary);
  const functions = composition.change(functionsIn(Object.values(next.chains).flat()), services);
  undo.defer(() => functions.abandon());
  const update = await live.load(planned);
  undo.defer(() => update.abandon());
  functions.start(registry);
  return { update, functions, change: planned.change };
}
