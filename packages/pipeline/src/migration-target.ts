/**
 * The map that entries are brought into while others may write it already: each operation leaves alone what is not as it was
 * brought. Places of arrays are always there, so one that holds zeros alone counts as free. A trie answers for shorter prefixes too:
 * it is read whole when a pass begins, and known by key from there on.
 */
import { Errno, type LoadedMap, SyscallError } from '@tailrace/bpf';
import type { RawEntry } from './migration.ts';

/** What became of an entry that was to be put in. */
export type Insertion = 'made' | 'taken' | 'full';

/** Where entries go. */
export class MigrationTarget {
  readonly map: LoadedMap;
  readonly #isArray: boolean;
  /** Tries. */
  readonly #known: Map<string, Uint8Array> | undefined;

  constructor(map: LoadedMap) {
    const { type } = map.spec;
    this.map = map;
    this.#isArray = type === 'array' || type === 'perCpuArray';
    this.#known = type === 'lpmTrie' ? entriesByKey(map) : undefined;
  }

  /** Puts an entry in where there is none of its key. */
  insert({ key, value }: RawEntry): Insertion {
    const isThere = this.#isArray || this.#known ? this.#isTaken(key) : false;
    const errno = isThere ? Errno.EEXIST : errnoOf(() => this.map.update(key, value, this.#isArray ? 'any' : 'noexist'));
    if (errno === Errno.E2BIG) return 'full';
    if (errno === Errno.EEXIST) return 'taken';
    this.#known?.set(keyText(key), value);
    return 'made';
  }

  /** Puts the value of `after` in the place of `before`, which has its key. */
  replace(before: RawEntry, after: RawEntry): void {
    if (!this.#holds(before)) return;
    // it may go meanwhile: then whoever took it wins
    errnoOf(() => this.map.update(after.key, after.value, 'exist'), Errno.ENOENT);
    this.#known?.set(keyText(after.key), after.value);
  }

  /** Takes an entry out. */
  remove(before: RawEntry): void {
    if (!this.#holds(before)) return;
    if (this.#isArray) this.map.update(before.key, new Uint8Array(before.value.length));
    else this.map.delete(before.key);
    this.#known?.delete(keyText(before.key));
  }

  #isTaken(key: Uint8Array): boolean {
    const value = this.#current(key);
    return value !== undefined && !(this.#isArray && value.every((byte) => byte === 0));
  }

  #holds({ key, value }: RawEntry): boolean {
    const current = this.#current(key);
    return current !== undefined && sameBytes(current, value);
  }

  #current(key: Uint8Array): Uint8Array | undefined {
    return this.#known ? this.#known.get(keyText(key)) : this.map.lookup(key);
  }
}

/** A key as text, to tell keys apart by. */
export function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

/** Whether two pieces are the same bytes. */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

function entriesByKey(map: LoadedMap): Map<string, Uint8Array> {
  const { count, keys, values } = map.readAll();
  const [size, stride] = [map.spec.keySize, map.valueStride];
  const known = new Map<string, Uint8Array>();
  for (let i = 0; i < count; i++) known.set(keyText(keys.subarray(i * size, (i + 1) * size)), values.slice(i * stride, (i + 1) * stride));
  return known;
}

/** What a call fails with, of the errors that are answers here; undefined where it does not. */
function errnoOf(call: () => void, ...answers: readonly number[]): number | undefined {
  const expected = answers.length > 0 ? answers : [Errno.E2BIG, Errno.EEXIST];
  try {
    call();
    return undefined;
  } catch (error) {
    if (error instanceof SyscallError && expected.includes(error.errno)) return error.errno;
    throw error;
  }
}
