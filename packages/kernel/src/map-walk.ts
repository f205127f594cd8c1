/**
 * Reading a map key by key while others change it. The kernel finds the next key from the one before: where that one is
 * gone, it starts over at the first. So a walk remembers the keys it has met, in their order, and where it meets one again
 * goes on behind the last of them that is still there. Entries that stay keep their order in every kind, so none of them is
 * passed over, and no key is given twice; but for what map-pass.ts tells of tries.
 */
import { TailraceError } from '@tailrace/bpf';

/** The part of a map that a walk needs. */
export interface WalkTarget {
  readonly spec: { readonly name: string; readonly maxEntries: number };
  lookup(key: Uint8Array): Uint8Array | undefined;
  nextKey(key?: Uint8Array): Uint8Array | undefined;
}

/** Calls beyond `maxEntries` for which a walk asks before it gives up, and how many times `maxEntries` besides. */
const PATIENCE = { calls: 4096, rounds: 16 } as const;

/**
 * All entries, each key once. `met` holds keys that were read already, in the map's order; they are not given again.
 * Throws TailraceError (`conflict`) where keys come and go faster than they can be read.
 */
export function* walk(map: WalkTarget, met: readonly Uint8Array[] = []): Generator<readonly [key: Uint8Array, value: Uint8Array]> {
  const path = [...met];
  const seen = new Set(met.map(nameOf));
  let calls = PATIENCE.calls + PATIENCE.rounds * map.spec.maxEntries;
  const next = (key?: Uint8Array): Uint8Array | undefined => {
    if (calls-- > 0) return map.nextKey(key);
    throw new TailraceError('conflict', `map ${map.spec.name}: keys come and go faster than they can be read`, {
      hint: 'read it while less is written, or use a hash, which is read bucket by bucket',
    });
  };
  for (;;) {
    const key = path.length === 0 ? next() : unmet(path, seen, next);
    if (!key) return;
    path.push(key);
    seen.add(nameOf(key));
    const value = map.lookup(key);
    if (value) yield [key, value];
  }
}

/** The key behind the last one of the path that is still there; undefined where that one is the map's last. */
function unmet(
  path: readonly Uint8Array[],
  seen: ReadonlySet<string>,
  next: (key: Uint8Array) => Uint8Array | undefined,
): Uint8Array | undefined {
  // The whole path can be met again while keys of it come and go: then once more.
  for (let at = path.length; ; at = at > 0 ? at : path.length) {
    at -= 1;
    const key = next(path[at] as Uint8Array);
    if (!key || !seen.has(nameOf(key))) return key;
  }
}

/** A key as text, to tell keys apart by. */
export function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}
