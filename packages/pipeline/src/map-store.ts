/** Who sees maps as they are opened and before they are closed, to fill, to keep or to log them. The least of the registry, to be replaced alone. */
import type { LoadedMap } from '@tailrace/bpf';
import type { AnyMap } from '@tailrace/stage';

/** A map that is open. */
export interface StoredMap {
  /** As in messages and pins, e.g. `l4lb/vips`. */
  readonly name: string;
  /** As it was declared. */
  readonly map: AnyMap;
  /** Its entries, as bytes. */
  readonly loaded: LoadedMap;
  /** False for one that another process left with what it holds. */
  readonly isNew: boolean;
}

/** Is told of maps. */
export interface MapStore {
  /**
   * A map was opened. Of a new one neither programs nor controllers have seen anything: what is put in now is what they find. Where it
   * throws, the run or the change fails with that, and leaves nothing behind.
   */
  opened(map: StoredMap): void;
  /**
   * Nobody uses it any more, and it is closed next: what it holds is final, unless the pipeline outlives the process. Where it throws,
   * the map is closed all the same, and stopping fails with that.
   */
  closing(map: StoredMap): void;
}

/** Does nothing. */
export const noStore: MapStore = { opened: () => undefined, closing: () => undefined };
