/** Where chains on sockets run: at the maps of sockets that their stages use, or at the engine's cgroup. */
import { type Attachment, type Detachable, type EngineInstance, type LoadedMap, type LoadedProgram, UnsupportedError } from '@tailrace/bpf';
import { type AnyMap, mapsIn } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { hookTitle, type SocketHook } from './chain-hook.ts';
import type { ChainPlan } from './plan.ts';

/** The maps of sockets that stages of a chain use, each once. */
export function socketMapsOf(plan: ChainPlan): readonly AnyMap[] {
  const maps = [...plan.places.values()].flatMap(({ stage }) => mapsIn(stage.uses));
  return [...new Set(maps)].filter(({ type }) => type === 'sockmap' || type === 'sockhash');
}

/** Throws ChainError for a chain on the data of sockets that no map leads to. */
export function checkSocketMaps(plan: ChainPlan): void {
  if ((plan.hook !== 'skSkb' && plan.hook !== 'skMsg') || socketMapsOf(plan).length > 0) return;
  throw new ChainError('sockets', `no stage of the ${plan.hook} chain uses a map of sockets: no data would meet it`, {
    hint: 'declare a sockmap() or sockhash() and name it in uses',
  });
}

/**
 * Throws ChainError for a chain that would be wanted at other maps of sockets than it is attached to: sockets that are in a map
 * already would not meet it.
 */
export function checkAttachedMaps(now: ChainPlan, after: ChainPlan): void {
  if (now.hook !== 'skSkb' && now.hook !== 'skMsg') return;
  const attached = socketMapsOf(now);
  const other = socketMapsOf(after).find((map) => !attached.includes(map));
  if (other === undefined) return;
  throw new ChainError('sockets', `the ${now.hook} chain is not attached to the map of sockets '${other.name}'`, {
    hint: 'name the map in a stage from the start, or stop the pipeline and run the other one',
  });
}

/**
 * Attaches a root wherever its chain runs, or nowhere. Sockets that are put into the maps from then on meet it.
 * Throws UnsupportedError, and what the engine throws.
 */
export async function attachToSockets(
  instance: EngineInstance,
  root: LoadedProgram,
  hook: SocketHook,
  maps: readonly LoadedMap[],
): Promise<Attachment> {
  if (instance.attachToSockets === undefined)
    throw new UnsupportedError(`the ${instance.kind} engine reaches no sockets, and the pipeline has a chain for ${hookTitle[hook]}`, {
      hint: 'run it with kernel()',
    });
  const places = hook === 'sockOps' ? [{ hook }] : maps.map((map) => ({ hook, map }));
  await using made = new AsyncDisposableStack();
  for (const place of places) {
    const attached: Detachable = await instance.attachToSockets(root, place);
    made.defer(() => attached.detach());
  }
  const kept = made.move();
  return { interfaces: [], detach: () => kept.disposeAsync() };
}
