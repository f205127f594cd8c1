/** TCP connections joined in the kernel: `splice()` for pipelines, and its controller's `splice(a, b)` for Node's sockets. */
import { GracePeriod } from '@tailrace/pipeline';
import { ArgumentError, defineFunction } from '@tailrace/stage';
import { SpliceController } from './controller.ts';
import { TcpSockets } from './sockets.ts';
import { carryStage, spliceMaps } from './stage.ts';

export { SpliceController, type SpliceNeeds, type SpliceOptions } from './controller.ts';
export type { FlowStats } from './flow.ts';
export type { Carrier, Spliced } from './pair.ts';
export { type Reading, type SocketReader, type TcpProgress, TcpSockets } from './sockets.ts';
export { carryStage, spliceMaps } from './stage.ts';

/** How to make a splicer. */
export interface SplicerOptions {
  /** Pairs that can be joined at a time; default 10,000. Further ones are piped by the process. */
  readonly maxPairs?: number;
}

/**
 * Declares a splicer with maps of its own, for `skSkb`. Data of sockets that are in no pair go to the next stage. Throws
 * ArgumentError for a size that no map can have.
 */
export function splicer(options: SplicerOptions = {}) {
  const { maxPairs = 10_000 } = options;
  if (!Number.isSafeInteger(maxPairs) || maxPairs < 1 || maxPairs > 2 ** 20)
    throw new ArgumentError(`splicer: maxPairs is ${maxPairs}, expected 1..1048576`);
  const maps = spliceMaps(2 * maxPairs);
  return defineFunction({
    name: 'splice',
    stages: { skSkb: [carryStage.with(maps)] },
    controller: {
      needs: { ...maps, sockets: TcpSockets, gracePeriod: GracePeriod },
      create: (needs) => new SpliceController(needs, maxPairs),
    },
  });
}
