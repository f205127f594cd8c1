/** Records of a ring one at a time, each given to a project that says when the next one may come. */
import { from, Observable, type ObservableInput, type Subscription } from 'rxjs';
import { type BeginReading, SLICE } from './ring-source.ts';

/** What `RingBufferHandle.consume` gives. */
// biome-ignore lint/suspicious/noConfusingVoidType: as in RingBufferHandle
export function consumed<R>(begin: BeginReading, project: (event: unknown) => ObservableInput<R> | void): Observable<R> {
  return new Observable<R>((subscriber) => {
    let inner: Subscription | undefined;
    let isWaiting = false;
    let isPulling = false;
    /** Records since the event loop had its turn, which settling promises do not give it. */
    let taken = 0;
    const pull = (): void => {
      // A project that is done at once comes back here from within the loop, which goes on by itself.
      if (isPulling) return;
      isPulling = true;
      try {
        while (!isWaiting && !subscriber.closed) {
          const next = taken < SLICE ? source?.next() : undefined;
          if (next === undefined) {
            source?.arm();
            break;
          }
          taken += 1;
          const result = project(next.value);
          if (result === undefined) continue;
          isWaiting = true;
          inner = from(result).subscribe({
            next: (value) => subscriber.next(value),
            error: (error: unknown) => subscriber.error(error),
            complete() {
              isWaiting = false;
              pull();
            },
          });
        }
      } catch (error) {
        subscriber.error(error);
      } finally {
        isPulling = false;
      }
    };
    const onReadable = (): void => {
      taken = 0;
      pull();
    };
    const source = begin(onReadable, () => subscriber.complete());
    if (source === undefined) return subscriber.complete();
    source.arm();
    return () => {
      inner?.unsubscribe();
      source.end();
    };
  });
}
