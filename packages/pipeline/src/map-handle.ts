/**
 * What the control plane gets for a live map: keys and values go in and out as the values of their schemas. One class
 * for each shape of handle (handle.ts of the stage package says what they promise).
 */
import { ArgumentError, type Batch, isPerCpu, type LoadedMap, type LoadedProgram, type UpdateFlag } from '@tailrace/bpf';
import {
  type AnyMap,
  type ArrayHandle,
  decodeFrom,
  encodeInto,
  type KeyedHandle,
  type PerCpuArrayHandle,
  type PerCpuHandle,
  type ProgramArrayHandle,
  type Schema,
  sumValues,
} from '@tailrace/stage';

/** Makes the handle of a live map. */
export function mapHandle(map: AnyMap, loaded: LoadedMap): unknown {
  if (map.type === 'programArray') return new SlotHandle(loaded);
  const isArray = map.type === 'array' || map.type === 'perCpuArray';
  if (isPerCpu(map.type)) {
    const entries = new Entries(loaded, map.key, perCpuCodec(map.value, loaded), map.name);
    return isArray ? new PerCpuIndexedHandle(entries, map.value) : new PerCpuKeyedHandle(entries, map.value);
  }
  const entries = new Entries(loaded, map.key, codec(map.value, `value of '${map.name}'`), map.name);
  return isArray ? new IndexedHandle(entries) : new SimpleHandle(entries);
}

/** Values as bytes: of one CPU, or of all. */
interface Codec<T> {
  readonly bytes: number;
  write(value: T, view: DataView, offset: number): void;
  read(view: DataView, offset: number): T;
}

function codec(schema: Schema<unknown>, subject: string): Codec<unknown> {
  const { layout } = schema;
  return {
    bytes: layout.size,
    write: (value, view, offset) => encodeInto(layout, value, view, offset, subject),
    read: (view, offset) => decodeFrom(layout, view, offset),
  };
}

/** One value for each CPU, each padded to 8 bytes. */
function perCpuCodec(schema: Schema<unknown>, { valueStride, spec }: LoadedMap): Codec<readonly unknown[]> {
  const one = codec(schema, `value of '${spec.name}'`);
  const stride = Math.ceil(spec.valueSize / 8) * 8;
  const cpus = valueStride / stride;
  return {
    bytes: valueStride,
    write(values, view, offset) {
      if (values.length !== cpus) throw new ArgumentError(`map ${spec.name}: ${values.length} values, expected ${cpus}, one for each CPU`);
      for (const [cpu, value] of values.entries()) one.write(value, view, offset + cpu * stride);
    },
    read: (view, offset) => Array.from({ length: cpus }, (_, cpu) => one.read(view, offset + cpu * stride)),
  };
}

/** The entries of a map, typed by two codecs. */
class Entries<V> {
  readonly loaded: LoadedMap;
  readonly #key: Codec<unknown>;
  readonly #value: Codec<V>;

  constructor(loaded: LoadedMap, key: Schema<unknown> | undefined, value: Codec<V>, name: string) {
    if (key === undefined) throw new ArgumentError(`map '${name}' has no keys, expected a kind with keys`);
    this.loaded = loaded;
    this.#key = codec(key, `key of '${name}'`);
    this.#value = value;
  }

  get(key: unknown): V | undefined {
    const found = this.loaded.lookup(encoded(this.#key, key));
    return found && this.#value.read(viewOf(found), 0);
  }

  set(key: unknown, value: V, flag?: UpdateFlag): void {
    this.loaded.update(encoded(this.#key, key), encoded(this.#value, value), flag);
  }

  delete(key: unknown): boolean {
    return this.loaded.delete(encoded(this.#key, key));
  }

  *all(): Generator<[key: unknown, value: V], undefined, undefined> {
    const { count, keys, values } = this.loaded.readAll();
    const [keyView, valueView] = [viewOf(keys), viewOf(values)];
    for (let i = 0; i < count; i++)
      yield [this.#key.read(keyView, i * this.#key.bytes), this.#value.read(valueView, i * this.#value.bytes)];
  }

  count(): number {
    return this.loaded.readAll().count;
  }

  setMany(entries: Iterable<readonly [key: unknown, value: V]>): void {
    const list = [...entries];
    const batch: Batch = {
      count: list.length,
      keys: new Uint8Array(list.length * this.#key.bytes),
      values: new Uint8Array(list.length * this.#value.bytes),
    };
    const [keyView, valueView] = [viewOf(batch.keys), viewOf(batch.values)];
    for (const [i, [key, value]] of list.entries()) {
      this.#key.write(key, keyView, i * this.#key.bytes);
      this.#value.write(value, valueView, i * this.#value.bytes);
    }
    if (list.length > 0) this.loaded.updateBatch(batch);
  }

  deleteMany(keys: Iterable<unknown>): number {
    let deleted = 0;
    for (const key of keys) if (this.delete(key)) deleted += 1;
    return deleted;
  }
}

class SimpleHandle implements KeyedHandle<unknown, unknown> {
  readonly #entries: Entries<unknown>;

  constructor(entries: Entries<unknown>) {
    this.#entries = entries;
  }

  get(key: unknown): unknown {
    return this.#entries.get(key);
  }

  set(key: unknown, value: unknown, flag?: UpdateFlag): void {
    this.#entries.set(key, value, flag);
  }

  delete(key: unknown): boolean {
    return this.#entries.delete(key);
  }

  entries(): Iterable<[key: unknown, value: unknown]> {
    return this.#entries.all();
  }

  getAll(): [key: unknown, value: unknown][] {
    return [...this.#entries.all()];
  }

  setMany(entries: Iterable<readonly [key: unknown, value: unknown]>): void {
    this.#entries.setMany(entries);
  }

  deleteMany(keys: Iterable<unknown>): number {
    return this.#entries.deleteMany(keys);
  }

  get size(): number {
    return this.#entries.count();
  }
}

class IndexedHandle implements ArrayHandle<unknown> {
  readonly #entries: Entries<unknown>;
  readonly size: number;

  constructor(entries: Entries<unknown>) {
    this.#entries = entries;
    this.size = entries.loaded.spec.maxEntries;
  }

  get(index: number): unknown {
    return this.#entries.get(index);
  }

  set(index: number, value: unknown): void {
    this.#entries.set(index, value);
  }

  entries(): Iterable<[index: number, value: unknown]> {
    return this.getAll();
  }

  getAll(): [index: number, value: unknown][] {
    return ordered(this.#entries.all());
  }

  setMany(entries: Iterable<readonly [index: number, value: unknown]>): void {
    this.#entries.setMany(entries);
  }
}

class PerCpuKeyedHandle implements PerCpuHandle<unknown, unknown> {
  readonly #entries: Entries<readonly unknown[]>;
  readonly #schema: Schema<unknown>;

  constructor(entries: Entries<readonly unknown[]>, schema: Schema<unknown>) {
    this.#entries = entries;
    this.#schema = schema;
  }

  get(key: unknown): unknown[] | undefined {
    const values = this.#entries.get(key);
    return values && [...values];
  }

  sum(key: unknown): ReturnType<PerCpuHandle<unknown, unknown>['sum']> {
    const values = this.#entries.get(key);
    return values && sumValues(this.#schema, values);
  }

  set(key: unknown, values: readonly unknown[], flag?: UpdateFlag): void {
    this.#entries.set(key, values, flag);
  }

  delete(key: unknown): boolean {
    return this.#entries.delete(key);
  }

  entries(): Iterable<[key: unknown, values: unknown[]]> {
    return this.getAll();
  }

  getAll(): [key: unknown, values: unknown[]][] {
    return [...this.#entries.all()].map(([key, values]) => [key, [...values]]);
  }

  setMany(entries: Iterable<readonly [key: unknown, values: readonly unknown[]]>): void {
    this.#entries.setMany(entries);
  }

  deleteMany(keys: Iterable<unknown>): number {
    return this.#entries.deleteMany(keys);
  }

  get size(): number {
    return this.#entries.count();
  }
}

class PerCpuIndexedHandle implements PerCpuArrayHandle<unknown> {
  readonly #entries: Entries<readonly unknown[]>;
  readonly #schema: Schema<unknown>;
  readonly size: number;

  constructor(entries: Entries<readonly unknown[]>, schema: Schema<unknown>) {
    this.#entries = entries;
    this.#schema = schema;
    this.size = entries.loaded.spec.maxEntries;
  }

  get(index: number): unknown[] | undefined {
    const values = this.#entries.get(index);
    return values && [...values];
  }

  sum(index: number): ReturnType<PerCpuArrayHandle<unknown>['sum']> {
    const values = this.#entries.get(index);
    return values && sumValues(this.#schema, values);
  }

  set(index: number, values: readonly unknown[]): void {
    this.#entries.set(index, values);
  }

  entries(): Iterable<[index: number, values: unknown[]]> {
    return this.getAll();
  }

  getAll(): [index: number, values: unknown[]][] {
    return ordered(this.#entries.all()).map(([index, values]) => [index, [...values]]);
  }

  setMany(entries: Iterable<readonly [index: number, values: readonly unknown[]]>): void {
    this.#entries.setMany(entries);
  }
}

class SlotHandle implements ProgramArrayHandle {
  readonly #loaded: LoadedMap;

  constructor(loaded: LoadedMap) {
    this.#loaded = loaded;
  }

  set(slot: number, program: LoadedProgram): Promise<void> {
    return this.#loaded.setProgram(slot, program);
  }

  clear(slot: number): Promise<void> {
    return this.#loaded.clearProgram(slot);
  }
}

/** Entries of an array by index, whatever order the engine read them in. */
function ordered<V>(entries: Iterable<[key: unknown, value: V]>): [index: number, value: V][] {
  return [...entries].map(([key, value]): [number, V] => [Number(key), value]).sort(([a], [b]) => a - b);
}

function encoded<T>(by: Codec<T>, value: T): Uint8Array {
  const bytes = new Uint8Array(by.bytes);
  by.write(value, viewOf(bytes), 0);
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
