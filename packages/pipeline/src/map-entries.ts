/** Keys and values of a live map as the values of their schemas: what the handles are made of. */
import { ArgumentError, type Batch, type LoadedMap, type UpdateFlag } from '@tailrace/bpf';
import { decodeFrom, encodeInto, type Schema } from '@tailrace/stage';

/** Values as bytes: of one CPU, or of all. */
export interface Codec<T> {
  readonly bytes: number;
  write(value: T, view: DataView, offset: number): void;
  read(view: DataView, offset: number): T;
}

/** One value. `subject` is what messages call it. */
export function codec(schema: Schema<unknown>, subject: string): Codec<unknown> {
  const { layout } = schema;
  return {
    bytes: layout.size,
    write: (value, view, offset) => encodeInto(layout, value, view, offset, subject),
    read: (view, offset) => decodeFrom(layout, view, offset),
  };
}

/** One value for each CPU, each padded to 8 bytes. */
export function perCpuCodec(
  schema: Schema<unknown>,
  { valueStride, spec }: Pick<LoadedMap, 'valueStride' | 'spec'>,
): Codec<readonly unknown[]> {
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
export class Entries<V> {
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
    const batch = this.loaded.readAll();
    for (let i = 0; i < batch.count; i++) yield this.decoded(batch, i);
  }

  /** An entry of a batch of this map. */
  decoded({ keys, values }: Batch, i: number): [key: unknown, value: V] {
    return [this.#key.read(viewOf(keys), i * this.#key.bytes), this.#value.read(viewOf(values), i * this.#value.bytes)];
  }

  keys(): unknown[] {
    const { count, keys } = this.loaded.readAll();
    const view = viewOf(keys);
    return Array.from({ length: count }, (_, i) => this.#key.read(view, i * this.#key.bytes));
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
    const list = [...keys];
    const bytes = new Uint8Array(list.length * this.#key.bytes);
    const view = viewOf(bytes);
    for (const [i, key] of list.entries()) this.#key.write(key, view, i * this.#key.bytes);
    return list.length > 0 ? this.loaded.deleteBatch(bytes, list.length) : 0;
  }
}

/** The bytes of a value. */
export function encoded<T>(by: Codec<T>, value: T): Uint8Array {
  const bytes = new Uint8Array(by.bytes);
  by.write(value, viewOf(bytes), 0);
  return bytes;
}

/** The same bytes as a view. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
