/** Watches a set of things that changes: the latest value of each, as one map. */
import { Observable, type Subscription } from 'rxjs';

/**
 * Subscribes to `watch(key)` for every key of the latest set, once, and lets go of keys that leave it. Emits the latest
 * values by key: an empty map at first, and a new one whenever a value comes or goes. An error of any ends all.
 */
export function watchEach<T>(
  watch: (key: string) => Observable<T>,
): (keys$: Observable<Iterable<string>>) => Observable<ReadonlyMap<string, T>> {
  return (keys$) =>
    new Observable((subscriber) => {
      const watched = new Map<string, Subscription>();
      let values: ReadonlyMap<string, T> = new Map();
      const emit = (change: (next: Map<string, T>) => void): void => {
        const next = new Map(values);
        change(next);
        values = next;
        subscriber.next(values);
      };
      subscriber.add(() => {
        for (const subscription of watched.values()) subscription.unsubscribe();
      });
      subscriber.next(values);
      subscriber.add(
        keys$.subscribe({
          next(keys) {
            const wanted = new Set(keys);
            for (const [key, subscription] of watched) {
              if (wanted.has(key)) continue;
              subscription.unsubscribe();
              watched.delete(key);
              if (values.has(key)) emit((next) => next.delete(key));
            }
            for (const key of wanted) {
              if (watched.has(key)) continue;
              watched.set(
                key,
                watch(key).subscribe({
                  next: (value) => emit((next) => next.set(key, value)),
                  error: (error: unknown) => subscriber.error(error),
                }),
              );
            }
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => subscriber.complete(),
        }),
      );
    });
}
