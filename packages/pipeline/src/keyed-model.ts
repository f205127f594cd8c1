/** For tests: a naive model of maps with keys, and random sequences of operations that hold a handle to it. */
import type { UpdateFlag } from '@tailrace/bpf';
import type { KeyedHandle } from '@tailrace/stage';
import fc from 'fast-check';
import { expect } from 'vitest';

/** What a kind of map is like, beside its handle. */
export interface KeyedKind<K, V> {
  readonly key: fc.Arbitrary<K>;
  readonly value: fc.Arbitrary<V>;
  /** Equal for keys that the kind takes for one. */
  readonly name: (key: K) => string;
  /** The value under a key; default the entry of its name. */
  readonly find?: (model: ReadonlyMap<string, readonly [K, V]>, key: K) => V | undefined;
  /** Entries that there is room for; default more than there are keys. */
  readonly room?: number;
}

/** What all handles of maps with keys can do. */
export type Keyed<K, V> = KeyedHandle<K, V>;

/** One operation. */
export type Step<K, V> =
  | { readonly kind: 'set'; readonly key: K; readonly value: V; readonly flag: UpdateFlag }
  | { readonly kind: 'delete'; readonly key: K }
  | { readonly kind: 'setMany'; readonly entries: readonly (readonly [K, V])[] }
  | { readonly kind: 'deleteMany'; readonly keys: readonly K[] }
  /** Takes every so manieth entry out while the entries are walked. */
  | { readonly kind: 'thin'; readonly every: number };

/** Sequences of operations, mostly writes. */
export function stepsOf<K, V>({ key, value }: KeyedKind<K, V>): fc.Arbitrary<readonly Step<K, V>[]> {
  const flag = fc.constantFrom<UpdateFlag>('any', 'any', 'noexist', 'exist');
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('set' as const), key, value, flag }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete' as const), key }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('setMany' as const), entries: fc.array(fc.tuple(key, value), { maxLength: 6 }) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('deleteMany' as const), keys: fc.array(key, { maxLength: 6 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('thin' as const), every: fc.integer({ min: 1, max: 3 }) }) },
  );
  return fc.array(step, { maxLength: 30 });
}

/** Runs operations on the handle of an empty map and on the model, and compares everything that can be asked after each. */
export function checkKeyed<K, V>(handle: Keyed<K, V>, kind: KeyedKind<K, V>, steps: readonly Step<K, V>[]): void {
  const model = new Model(kind);
  for (const step of steps) {
    run(handle, model, step);
    const read = handle.getAll();
    expect(handle.size).toBe(model.entries.size);
    expect(read).toHaveLength(model.entries.size);
    expect(byName(kind, read)).toEqual(byName(kind, [...model.entries.values()]));
    for (const key of model.asked) expect(handle.get(key)).toEqual(model.find(key));
  }
}

function run<K, V>(handle: Keyed<K, V>, model: Model<K, V>, step: Step<K, V>): void {
  switch (step.kind) {
    case 'set':
      return expect(errnoOf(() => handle.set(step.key, step.value, step.flag))).toBe(model.set(step.key, step.value, step.flag));
    case 'delete':
      return expect(handle.delete(step.key)).toBe(model.delete(step.key));
    case 'setMany': {
      // What comes before the entry that cannot be written is written.
      let expected: string | undefined;
      for (const [key, value] of step.entries) expected ??= model.set(key, value, 'any');
      return expect(errnoOf(() => handle.setMany(step.entries))).toBe(expected);
    }
    case 'deleteMany':
      return expect(handle.deleteMany(step.keys)).toBe(step.keys.filter((key) => model.delete(key)).length);
    case 'thin': {
      const before = new Set(model.entries.keys());
      const read: string[] = [];
      for (const [key] of handle.entries()) {
        read.push(model.name(key));
        if (read.length % step.every === 0) expect(handle.delete(key)).toBe(model.delete(key));
      }
      expect(read).toHaveLength(before.size);
      return expect(new Set(read)).toEqual(before);
    }
  }
}

class Model<K, V> {
  readonly entries = new Map<string, readonly [K, V]>();
  /** Every key that was written or tried. */
  readonly asked: K[] = [];
  readonly name: (key: K) => string;
  readonly #room: number;
  readonly #find: ((model: ReadonlyMap<string, readonly [K, V]>, key: K) => V | undefined) | undefined;

  constructor({ name, find, room = Number.POSITIVE_INFINITY }: KeyedKind<K, V>) {
    this.name = name;
    this.#find = find;
    this.#room = room;
  }

  /** The errno that the write ends in, if any. */
  set(key: K, value: V, flag: UpdateFlag): string | undefined {
    this.asked.push(key);
    const name = this.name(key);
    const isThere = this.entries.has(name);
    if (isThere && flag === 'noexist') return 'EEXIST';
    if (!isThere && flag === 'exist') return 'ENOENT';
    if (!isThere && this.entries.size >= this.#room) return 'E2BIG';
    this.entries.set(name, [key, value]);
    return undefined;
  }

  delete(key: K): boolean {
    return this.entries.delete(this.name(key));
  }

  find(key: K): V | undefined {
    return this.#find ? this.#find(this.entries, key) : this.entries.get(this.name(key))?.[1];
  }
}

function byName<K, V>({ name }: KeyedKind<K, V>, entries: readonly (readonly [K, V])[]): ReadonlyMap<string, V> {
  return new Map(entries.map(([key, value]) => [name(key), value]));
}

/** The name of the errno that a call ends in; undefined where it succeeds. */
export function errnoOf(call: () => void): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    return (error as { readonly errnoName?: string }).errnoName ?? String(error);
  }
}
