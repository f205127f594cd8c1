/**
 * Packets that are handed in, where the engine runs packets itself: each takes its whole way through the pipeline, from hook to
 * hook as long as it passes, with what XDP leaves for TC ingress. They keep their order.
 */
import { ArgumentError, type BatchPacket, type Redirect } from '@tailrace/bpf';
import type { ChainBatchResult } from './chain.ts';
import type { ChainHook, ChainVerdict } from './chain-hook.ts';
import type { LivePipeline } from './live-pipeline.ts';
import type { PathStep } from './path.ts';

/** Packets, or batches of them. */
export type PacketSource = Iterable<Uint8Array> | AsyncIterable<Uint8Array | readonly Uint8Array[]>;

/** How packets go in. */
export interface InjectOptions {
  /** `ingress` (default): XDP, then TC ingress; `egress`: TC egress. */
  readonly direction?: 'ingress' | 'egress';
  /** Also tells each packet's path; packets are run one by one then. Default false. */
  readonly path?: boolean;
}

/** One stage on a packet's way, with the chain that it stands in. */
export interface InjectedStep extends PathStep {
  readonly hook: ChainHook;
}

/** What came of a packet. */
export interface Injected {
  /** Its number, from 0. */
  readonly index: number;
  /** The chain that decided about it: the last one that it met. */
  readonly hook: ChainHook;
  readonly verdict: ChainVerdict;
  /** The packet as the last chain left it. Its bytes stay as they are; holding them holds those of its batch. */
  readonly packet: Uint8Array;
  /** Where a redirect sent it. */
  readonly redirect?: Redirect;
  /** Where it was asked for: its stages in order. `undefined` where the counters do not tell it. */
  readonly path?: readonly InjectedStep[] | undefined;
}

/** Packets of an iterable that are run at a time, and how many of a batch that is handed in are. */
const BATCH = 256;
const LIMIT = 4096;

/** Sends packets through a pipeline. Throws UnsupportedError where the engine has packets only from interfaces, and what programs throw. */
export async function* inject(live: LivePipeline, packets: PacketSource, options: InjectOptions = {}): AsyncGenerator<Injected, void> {
  // yield* would wrap each of them once more
  for await (const batch of injectBatches(live, batchesOf(packets), options)) for (const injected of batch) yield injected;
}

/** As `inject`, batch by batch: waiting for single packets takes longer than running them. */
export async function* injectBatches(
  live: LivePipeline,
  batches: AsyncIterable<readonly Uint8Array[]> | Iterable<readonly Uint8Array[]>,
  options: InjectOptions = {},
): AsyncGenerator<readonly Injected[], void> {
  const hooks = hooksOf(live, options.direction ?? 'ingress');
  let index = 0;
  for await (const batch of batches) {
    for (let from = 0; from < batch.length; from += LIMIT) {
      const part = batch.length > LIMIT ? batch.slice(from, from + LIMIT) : batch;
      yield injectBatch(live, hooks, part, index, options.path ?? false);
      index += part.length;
      await live.turn();
    }
  }
}

/** Sends one packet through a pipeline. */
export function injectOne(live: LivePipeline, packet: Uint8Array, options: InjectOptions = {}): Injected {
  const [result] = injectBatch(live, hooksOf(live, options.direction ?? 'ingress'), [packet], 0, options.path ?? false);
  return result as Injected;
}

/** The chains that packets of a direction meet, in order. */
function hooksOf(live: LivePipeline, direction: 'ingress' | 'egress'): readonly ChainHook[] {
  const met: readonly ChainHook[] = direction === 'egress' ? ['tcEgress'] : ['xdp', 'tcIngress'];
  const hooks = met.filter((hook) => live.hooks.includes(hook));
  if (hooks.length === 0)
    throw new ArgumentError(`the pipeline has no chain for ${direction}`, { hint: `it has ${live.hooks.join(', ')}` });
  return hooks;
}

async function* batchesOf(packets: PacketSource): AsyncGenerator<readonly Uint8Array[], void> {
  if (Symbol.asyncIterator in packets) {
    for await (const item of packets) yield item instanceof Uint8Array ? [item] : item;
    return;
  }
  let batch: Uint8Array[] = [];
  for (const packet of packets) {
    if (batch.push(packet) < BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

interface Journey {
  hook: ChainHook;
  verdict: ChainVerdict;
  packet: BatchPacket;
  redirect: Redirect | undefined;
  path: InjectedStep[] | undefined;
}

function injectBatch(
  live: LivePipeline,
  hooks: readonly ChainHook[],
  packets: readonly Uint8Array[],
  first: number,
  wantsPath: boolean,
): readonly Injected[] {
  const journeys = packets.map(
    (packet): Journey => ({ hook: hooks[0] as ChainHook, verdict: 'pass', packet: { packet }, redirect: undefined, path: [] }),
  );
  for (const hook of hooks) {
    const travelling = hook === hooks[0] ? journeys : journeys.filter(({ verdict }) => verdict === 'pass');
    const results = live.chain(hook).runBatch(
      travelling.map(({ packet }) => packet),
      wantsPath,
    );
    const kept = keep(results);
    for (const [place, journey] of travelling.entries()) {
      const { verdict, result, path } = results[place] as ChainBatchResult;
      journey.hook = hook;
      journey.verdict = verdict;
      journey.packet = kept[place] as BatchPacket;
      journey.redirect = result.redirect;
      if (wantsPath) journey.path = path && journey.path?.concat(path.map((step) => ({ hook, ...step })));
    }
  }
  return journeys.map(({ hook, verdict, packet: { packet }, redirect, path }, place): Injected => {
    const injected = { index: first + place, hook, verdict, packet };
    if (!redirect && !wantsPath) return injected;
    return { ...injected, ...(redirect ? { redirect } : {}), ...(wantsPath ? { path } : {}) };
  });
}

/** Copies what the next batch would overwrite, into one block for all packets of a batch. */
function keep(results: readonly ChainBatchResult[]): readonly BatchPacket[] {
  const views = results.map(({ result: { packet, metadata } }): BatchPacket => ({ packet, metadata }));
  const block = new Uint8Array(views.reduce((sum, { packet, metadata }) => sum + packet.length + (metadata?.length ?? 0), 0));
  let end = 0;
  const copy = (bytes: Uint8Array): Uint8Array => {
    block.set(bytes, end);
    end += bytes.length;
    return block.subarray(end - bytes.length, end);
  };
  return views.map(({ packet, metadata }) => (metadata ? { packet: copy(packet), metadata: copy(metadata) } : { packet: copy(packet) }));
}
