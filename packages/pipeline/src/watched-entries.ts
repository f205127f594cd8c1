/** What the handles of maps with entries have in common. */
import type { AnyMap, MapChanges, RestoreOptions } from '@tailrace/stage';
import type { Observable, SchedulerLike } from 'rxjs';
import { changesOf } from './map-changes.ts';
import type { Entries } from './map-entries.ts';
import { restoreMap, saveMap } from './map-snapshot.ts';

/** What is known of the map besides its entries. */
export interface Watched {
  readonly map: AnyMap;
  /** When to look for changes. */
  readonly clock: SchedulerLike;
  /** Emits once the map is closed, also to who comes later. */
  readonly closed$: Observable<void>;
}

/** A handle over the entries of a map; `K` and `V` are what its declaration says of them, `S` what is written. */
export abstract class WatchedEntries<K, V, S = V> {
  protected readonly store: Entries<S>;
  readonly #watched: Watched;

  constructor(store: Entries<S>, watched: Watched) {
    this.store = store;
    this.#watched = watched;
  }

  changes$(periodMs: number): Observable<MapChanges<K, V>> {
    const changes$: Observable<MapChanges<unknown, S>> = changesOf(this.store, periodMs, this.#watched.clock, this.#watched.closed$);
    // what the codecs read is of the declaration's types
    return changes$ as Observable<MapChanges<unknown, unknown>> as Observable<MapChanges<K, V>>;
  }

  save(path: string): Promise<number> {
    return saveMap(this.#watched.map, this.store.loaded, path);
  }

  restore(path: string, options?: RestoreOptions): Promise<number> {
    return restoreMap(this.#watched.map, this.store.loaded, path, options);
  }
}
