/** Plays the packets that an engine brings along through a pipeline, and hands on those that leave. */
import { ArgumentError, type Traffic, type TrafficPacket } from '@tailrace/bpf';
import type { ChainVerdict } from './chain-hook.ts';
import { injectBatches } from './injection.ts';
import type { LivePipeline } from './live-pipeline.ts';

/** What came of all packets. */
export interface ReplayTotals {
  readonly packets: number;
  /** Packets by what they came to; those that none came to are missing. */
  readonly verdicts: Readonly<Partial<Record<ChainVerdict, number>>>;
  /** Packets that left: passed, sent back or redirected. */
  readonly delivered: number;
}

/** Verdicts with which a packet leaves the pipeline. */
const LEAVES: ReadonlySet<ChainVerdict> = new Set(['pass', 'tx', 'redirect']);

/** A replay that goes on. */
export class Replay {
  /** Resolves once all packets are through. Rejects with what reading, running or writing them throws. */
  readonly done: Promise<ReplayTotals>;
  #isStopped = false;

  constructor(live: LivePipeline, traffic: Traffic) {
    this.done = this.#play(live, traffic);
    // who does not ask is not told
    this.done.catch(() => undefined);
  }

  /** Takes no more packets, and returns once those that were taken are through. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.done.catch(() => undefined);
  }

  async #play(live: LivePipeline, traffic: Traffic): Promise<ReplayTotals> {
    const verdicts: Partial<Record<ChainVerdict, number>> = {};
    let [packets, delivered] = [0, 0];
    try {
      for await (const batch of traffic.packets()) {
        if (this.#isStopped) break;
        for await (const injected of injectBatches(live, [bytesOf(batch)])) {
          for (const { index, verdict, packet } of injected) {
            packets++;
            verdicts[verdict] = (verdicts[verdict] ?? 0) + 1;
            if (!LEAVES.has(verdict)) continue;
            delivered++;
            const written = traffic.deliver(packet, batch[index]?.timestampNs ?? 0n);
            if (written) await written;
          }
        }
      }
    } finally {
      await traffic.end();
    }
    return { packets, verdicts, delivered };
  }
}

function bytesOf(batch: readonly TrafficPacket[]): readonly Uint8Array[] {
  return batch.map(({ packet }) => packet);
}

/** For pipelines whose engine brings no packets. */
export function nothingToReplay(name: string): ArgumentError {
  return new ArgumentError(`pipeline '${name}' has no packets to replay`, { hint: 'run it with userspace({ pcap, out })' });
}
