/** How a pipeline begins that outlives its process: anew, or where another left it. */
import { canPin, type EngineInstance, UnsupportedError } from '@tailrace/bpf';
import { hookTitle, isPacketHook } from './chain-hook.ts';
import type { KeptOptions } from './found.ts';
import { Keeper } from './keeper.ts';
import type { LoadedUpdate } from './live-pipeline.ts';
import { takenBack } from './rollback.ts';

/**
 * Takes what is pinned of a pipeline, or begins it. Throws UnsupportedError where it cannot outlive the process, and what
 * `Keeper.take` does.
 */
export async function keeperOf(instance: EngineInstance, options: KeptOptions): Promise<Keeper> {
  const { name, roots } = options;
  const onSockets = [...roots.keys()].find((hook) => !isPacketHook(hook));
  if (onSockets)
    throw new UnsupportedError(
      `pipeline '${name}': its chain at ${hookTitle[onSockets]} cannot outlive the process, whose sockets end with it`,
      {
        hint: 'run the chains of packets as a pipeline of their own, with persist',
      },
    );
  if (canPin(instance)) return Keeper.take(instance, options);
  throw new UnsupportedError(`pipeline '${name}': the ${instance.kind} engine keeps nothing beyond its process, which persist asks for`, {
    hint: 'run it with kernel(), or without persist',
  });
}

/** Leads packets from what another process left to what is declared, with the entries that changed by then. */
export async function commitAdoption(adoption: LoadedUpdate, keeper: Keeper): Promise<void> {
  try {
    await keeper.follow();
    await adoption.commit();
  } catch (error) {
    throw await takenBack(error, () => adoption.abandon());
  }
}
