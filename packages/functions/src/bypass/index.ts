/** Connections between processes of one host past TCP: `bypass()`, for `sockOps` and `skMsg`. */
import { ArgumentError, defineFunction, type HandleOf } from '@tailrace/stage';
import { bypassMaps, handOverStage, trackStage } from './stage.ts';

export { bypassMaps, handOverStage, trackStage, Way } from './stage.ts';

/** What a bypass could not do. */
export class BypassController {
  readonly #missed: HandleOf<ReturnType<typeof bypassMaps>['missed']>;

  constructor({ missed }: { readonly missed: HandleOf<ReturnType<typeof bypassMaps>['missed']> }) {
    this.#missed = missed;
  }

  /** Ends of connections that found no room, since the pipeline began: TCP carries those. */
  get withoutRoom(): bigint {
    return this.#missed.get(0)?.ends ?? 0n;
  }
}

/** How to make a bypass. */
export interface BypassOptions {
  /** Connections at a time; default 10,000. Further ones stay with TCP. */
  readonly maxConnections?: number;
}

/**
 * Declares a bypass with maps of its own, for the sockets of the engine's cgroup: `kernel({ cgroup })`. Neither process has to know.
 * In stats `bypass.handOver` counts as `redirect` what was handed over, as `next` what TCP carries since the other end is elsewhere;
 * the controller counts ends that found no room.
 * Throws ArgumentError for a size that no map can have.
 */
export function bypass(options: BypassOptions = {}) {
  const { maxConnections = 10_000 } = options;
  if (!Number.isSafeInteger(maxConnections) || maxConnections < 1 || maxConnections > 2 ** 20)
    throw new ArgumentError(`bypass: maxConnections is ${maxConnections}, expected 1..1048576`);
  const maps = bypassMaps(2 * maxConnections);
  return defineFunction({
    name: 'bypass',
    stages: { sockOps: [trackStage.with(maps)], skMsg: [handOverStage.with(maps)] },
    controller: { needs: { missed: maps.missed }, create: (needs) => new BypassController(needs) },
  });
}
