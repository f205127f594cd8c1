/** What changes in a map, found by looking at it again and again. Entries are told apart by their bytes, and decoded where they are told. */
import { ArgumentError, type Batch } from '@tailrace/bpf';
import type { MapChanges } from '@tailrace/stage';
import { defer, filter, map, type Observable, type SchedulerLike, takeUntil, timer } from 'rxjs';
import type { Entries } from './map-entries.ts';

const NOTHING: Batch = { count: 0, keys: new Uint8Array(0), values: new Uint8Array(0) };
/** The longest period: what timers take. */
const MAX_PERIOD = 0x7fff_ffff;

/** What `WatchedHandle.changes$` is; it completes with the first of `closed$`. */
export function changesOf<V>(
  entries: Entries<V>,
  periodMs: number,
  clock: SchedulerLike,
  closed$: Observable<void>,
): Observable<MapChanges<unknown, V>> {
  if (!(periodMs > 0 && periodMs <= MAX_PERIOD))
    throw new ArgumentError(
      `changes of map ${entries.loaded.spec.name} every ${periodMs} ms, expected more than 0 and at most ${MAX_PERIOD}`,
    );
  return defer(() => {
    let before: Batch | undefined;
    return timer(0, periodMs, clock).pipe(
      map(() => {
        const after = entries.loaded.readAll();
        const changes = changesBetween(entries, before ?? NOTHING, after);
        const isFirst = before === undefined;
        before = after;
        return { changes, isFirst };
      }),
      filter(({ changes: { added, changed, removed }, isFirst }) => isFirst || added.length + changed.length + removed.length > 0),
      map(({ changes }) => changes),
      takeUntil(closed$),
    );
  });
}

function changesBetween<V>(entries: Entries<V>, before: Batch, after: Batch): MapChanges<unknown, V> {
  const { keySize } = entries.loaded.spec;
  const stride = entries.loaded.valueStride;
  const added: (readonly [unknown, V])[] = [];
  const changed: (readonly [unknown, V, V])[] = [];
  const same = (i: number, j: number): boolean => part(before.values, i, stride).equals(part(after.values, j, stride));
  const compare = (i: number, j: number): void => {
    if (same(i, j)) return;
    const [key, value] = entries.decoded(after, j);
    changed.push([key, value, entries.decoded(before, i)[1]]);
  };
  // Most looks find the keys that the one before found, in their order.
  if (before.count === after.count && bytes(before.keys).equals(after.keys)) {
    for (let i = 0; i < after.count; i++) compare(i, i);
    return { added, changed, removed: [] };
  }
  const left = new Map(Array.from({ length: before.count }, (_, i) => [part(before.keys, i, keySize).toString('latin1'), i]));
  for (let j = 0; j < after.count; j++) {
    const name = part(after.keys, j, keySize).toString('latin1');
    const i = left.get(name);
    if (i === undefined) added.push(entries.decoded(after, j));
    else compare(i, j);
    left.delete(name);
  }
  return { added, changed, removed: [...left.values()].map((i) => entries.decoded(before, i)) };
}

function bytes(of: Uint8Array): Buffer {
  return Buffer.from(of.buffer, of.byteOffset, of.byteLength);
}

function part(of: Uint8Array, index: number, size: number): Buffer {
  return Buffer.from(of.buffer, of.byteOffset + index * size, size);
}
