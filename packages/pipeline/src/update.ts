/** A running pipeline becomes another one: chains, maps, functions and their controllers, in one step or not at all. */
import type { Chains, Override } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import type { Composition } from './composition.ts';
import { functionsIn } from './graph.ts';
import type { LivePipeline } from './live-pipeline.ts';
import type { MapRegistry } from './registry.ts';

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
export async function updatePipeline(parts: UpdateParts, next: NextPipeline, { services = [] }: UpdateOptions): Promise<void> {
  const { name, live, composition, registry } = parts;
  // maps, pins and what crosses from XDP go by the name
  if (next.name !== name)
    throw new ChainError('absent', `pipeline '${name}' cannot become '${next.name}': what it keeps goes by its name`, {
      hint: `declare the next one as pipeline('${name}', …)`,
    });
  const planned = live.planUpdate(next.chains);
  const functions = composition.change(functionsIn(Object.values(next.chains).flat()), services);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => functions.abandon());
  const chains = await live.load(planned);
  undo.defer(() => chains.abandon());
  functions.start(registry);
  await chains.commit();
  undo.move();
  try {
    await live.gracePeriod();
  } catch (error) {
    chains.settleLate();
    functions.settleLate();
    throw error;
  }
  await chains.settle();
  await functions.settle();
}
