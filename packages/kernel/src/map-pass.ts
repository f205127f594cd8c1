/**
 * Reading a map again for what was passed over. Beside a key of a trie that is being replaced the kernel may pass over all keys of a branch
 * (trie_get_next_key of kernel/bpf/lpm_trie.c), in batches as key by key, and says nothing of it. It takes a moment of nanoseconds: that the
 * same keys are passed over in one reading after the other does not come about.
 */
import type { Batch } from '@tailrace/bpf';
import { nameOf } from './map-walk.ts';

/** While programs put new keys in there is always something new. */
const MOST_PASSES = 4;

/** Reads twice, and on until a reading meets nothing new, four times at most. Gives each key once. */
export function* inPasses(read: () => Iterable<Batch>): Generator<Batch> {
  const known = new Set<string>();
  for (let pass = 0, isNew = true; pass < MOST_PASSES && (pass < 2 || isNew); pass++) {
    isNew = false;
    for (const part of read()) {
      const fresh = unknown(part, known);
      if (fresh.count > 0) isNew = true;
      if (fresh.count > 0 || pass === 0) yield fresh;
    }
  }
}

/** Those entries of a part whose keys are not known; they are from now on. */
function unknown(part: Batch, known: Set<string>): Batch {
  const { count, keys, values } = part;
  const [keySize, stride] = count === 0 ? [0, 0] : [keys.length / count, values.length / count];
  const at = Array.from({ length: count }, (_, index) => index).filter((index) => {
    const name = nameOf(keys.subarray(index * keySize, (index + 1) * keySize));
    return !known.has(name) && known.add(name);
  });
  if (at.length === count) return part;
  const fresh = { count: at.length, keys: new Uint8Array(at.length * keySize), values: new Uint8Array(at.length * stride) };
  for (const [to, from] of at.entries()) {
    fresh.keys.set(keys.subarray(from * keySize, (from + 1) * keySize), to * keySize);
    fresh.values.set(values.subarray(from * stride, (from + 1) * stride), to * stride);
  }
  return fresh;
}
