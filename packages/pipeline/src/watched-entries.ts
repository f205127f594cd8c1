/** What the handles of maps with entries have in common. */
import type { MapChanges } from '@tailrace/stage';
import type { Observable, SchedulerLike } from 'rxjs';
import { changesOf } from './map-changes.ts';
import type { Entries } from './map-entries.ts';

/** When to look for changes, and until when. */
export interface Watch {
  readonly clock: SchedulerLike;
  /** Emits once the map is closed, also to who comes later. */
  readonly closed$: Observable<void>;
}

/** A handle over the entries of a map; `K` and `V` are what its declaration says of them, `S` what is written. */
export abstract class WatchedEntries<K, V, S = V> {
  protected readonly store: Entries<S>;
  readonly #watch: Watch;

  constructor(store: Entries<S>, watch: Watch) {
    this.store = store;
    this.#watch = watch;
  }

  changes$(periodMs: number): Observable<MapChanges<K, V>> {
    const changes$: Observable<MapChanges<unknown, S>> = changesOf(this.store, periodMs, this.#watch.clock, this.#watch.closed$);
    // what the codecs read is of the declaration's types
    return changes$ as Observable<MapChanges<unknown, unknown>> as Observable<MapChanges<K, V>>;
  }
}
