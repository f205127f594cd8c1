/** Connections between processes of one host past TCP: `bypass()`, for `sockOps` and `skMsg`. */
import { ArgumentError, defineFunction, type HandleOf } from '@tailrace/stage';
import { bypassMaps, handOverStage, trackStage } from './stage.ts';

export { bypassMaps, handOverStage, trackStage, Way } from './stage.ts';

/** What a bypass could not do. */
export class BypassController {
  readonly #counts: HandleOf<ReturnType<typeof bypassMaps>['counts']>;

  constructor({ counts }: { readonly counts: HandleOf<ReturnType<typeof bypassMaps>['counts']> }) {
    this.#counts = counts;
  }

  /** Ends of connections that found no room, since the pipeline began: TCP carries those. */
  get withoutRoom(): bigint {
    return this.#counts.get(0)?.withoutRoom ?? 0n;
  }

  /** Ends that sent more than `maxUnanswered` bytes without an answer, since the pipeline began: TCP carries what they send now. */
  get unanswered(): bigint {
    return this.#counts.get(0)?.unanswered ?? 0n;
  }
}

/** How to make a bypass. */
export interface BypassOptions {
  /** Connections at a time; default 10,000. Further ones stay with TCP. */
  readonly maxConnections?: number;
  /**
   * Bytes that an end may send before the other sends any, a message counting 1,024 more; default 64 MiB. Who goes beyond goes on through
   * TCP, for good, and is held back by it: at most twice as much waits outside of TCP for who does not read. Infinity: however much.
   */
  readonly maxUnanswered?: number;
}

/**
 * Declares a bypass with maps of its own, for the sockets of the engine's cgroup: `kernel({ cgroup })`. Neither process has to know.
 * In stats `bypass.handOver` counts as `redirect` what was handed over, as `next` what TCP carries since the other end is elsewhere
 * or does not answer; the controller counts ends that found no room, or no answer.
 * Throws ArgumentError for a size that no map can have, and for a number of bytes below 1.
 */
export function bypass(options: BypassOptions = {}) {
  const { maxConnections = 10_000, maxUnanswered = 64 << 20 } = options;
  if (!Number.isSafeInteger(maxConnections) || maxConnections < 1 || maxConnections > 2 ** 20)
    throw new ArgumentError(`bypass: maxConnections is ${maxConnections}, expected 1..1048576`);
  if (maxUnanswered !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(maxUnanswered) && maxUnanswered >= 1))
    throw new ArgumentError(`bypass: maxUnanswered is ${maxUnanswered}, expected 1..${Number.MAX_SAFE_INTEGER} or Infinity`);
  const maps = bypassMaps(2 * maxConnections);
  const limit = Math.min(maxUnanswered, Number.MAX_SAFE_INTEGER);
  return defineFunction({
    name: 'bypass',
    stages: { sockOps: [trackStage.with(maps)], skMsg: [handOverStage.with({ ...maps, maxUnanswered: limit })] },
    controller: { needs: { counts: maps.counts }, create: (needs) => new BypassController(needs) },
  });
}
