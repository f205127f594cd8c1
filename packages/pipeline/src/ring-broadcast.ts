/**
 * Every record of a ring to everybody who listens. It is what `share()` does, without a Subject between the ring and its
 * subscribers: that takes three times as long as reading a record and decoding it.
 */
import { Observable, type Subscriber } from 'rxjs';

/** A ring that is read in slices. */
export interface SliceSource {
  /** Hands over the records of a slice, and returns how many. Throws ArgumentError for a record that is too short. */
  read(onEvent: (event: unknown) => void): number;
  /** Asks for `onReadable`, once there is a record. */
  arm(): void;
  /** Lets others read; a slice under way ends. Idempotent. */
  end(): void;
}

/** Takes the ring; gives nothing once the pipeline has stopped. Throws ArgumentError where somebody has it. */
export type BeginSlices = (onReadable: () => void, onStop: () => void) => SliceSource | undefined;

/** What `RingBufferHandle.events$` is. `most` is how many records a ring can hold. */
export function broadcast(begin: BeginSlices, most: number): Observable<unknown> {
  /** Replaced and not changed, so that a record goes to those who were there when it was read. */
  let listeners: readonly Subscriber<unknown>[] = [];
  let source: SliceSource | undefined;

  const tell = (event: unknown): void => {
    for (const listener of listeners) listener.next(event);
  };
  const slice = (): number => {
    try {
      return source?.read(tell) ?? 0;
    } catch (error) {
      for (const listener of listeners) listener.error(error);
      return 0;
    }
  };
  const onReadable = (): void => {
    slice();
    source?.arm();
  };
  const onStop = (): void => {
    // A ring that somebody still writes to is read once over, and not for ever.
    for (let count = 1, left = most; count > 0 && left > 0; left -= count) count = slice();
    for (const listener of listeners) listener.complete();
  };

  return new Observable((subscriber) => {
    if (source === undefined) {
      source = begin(onReadable, onStop);
      if (source === undefined) return subscriber.complete();
      source.arm();
    }
    listeners = [...listeners, subscriber];
    return () => {
      listeners = listeners.filter((listener) => listener !== subscriber);
      if (listeners.length > 0) return;
      source?.end();
      source = undefined;
    };
  });
}
