/**
 * What the control plane gets for a live map: keys and values go in and out as the values of their schemas. One class
 * for each shape of handle (handle.ts of the stage package says what they promise); those of kinds without plain entries
 * are in queue-handle.ts, socket-handle.ts, maps-handle.ts and ring-handle.ts.
 */
import { isPerCpu, type LoadedMap, type LoadedProgram, type UpdateFlag } from '@tailrace/bpf';
import {
  type AnyMap,
  type ArrayHandle,
  type KeyedHandle,
  type PerCpuArrayHandle,
  type PerCpuHandle,
  type ProgramArrayHandle,
  type Schema,
  sumValues,
} from '@tailrace/stage';
import { ReplaySubject, type SchedulerLike } from 'rxjs';
import { codec, Entries, perCpuCodec } from './map-entries.ts';
import { InnerMaps, type MapMaker } from './maps-handle.ts';
import { FilterHandle, ValuesHandle } from './queue-handle.ts';
import { RingHandle } from './ring-handle.ts';
import { DescriptorSlots, SocketEntries } from './socket-handle.ts';
import { type Watched, WatchedEntries } from './watched-entries.ts';

/** What handles are made with. */
export interface HandleContext {
  /** Makes the inner maps of maps of maps, and reads rings. */
  readonly maker: MapMaker;
  /** Tells streams of changes when to look. */
  readonly clock: SchedulerLike;
  /** What the handle opens is closed with it. */
  readonly resources: DisposableStack;
}

/** Makes the handle of a live map. */
export function mapHandle(map: AnyMap, loaded: LoadedMap, context: HandleContext): unknown {
  switch (map.type) {
    case 'programArray':
      return new SlotHandle(loaded);
    case 'queue':
    case 'stack':
      return new ValuesHandle(map, loaded);
    case 'bloomFilter':
      return new FilterHandle(map, loaded);
    case 'ringBuffer':
    case 'perfEventArray':
      return context.resources.use(new RingHandle(map, loaded, context.maker));
    case 'xskmap':
      return new DescriptorSlots(map, loaded);
    case 'sockmap':
    case 'sockhash':
      return new SocketEntries(map, loaded);
    case 'arrayOfMaps':
    case 'hashOfMaps':
      return new InnerMaps(map, loaded, context, mapHandle);
    default:
      return entriesHandle(map, loaded, context);
  }
}

function entriesHandle(map: AnyMap, loaded: LoadedMap, { clock, resources }: HandleContext): unknown {
  const closed$ = new ReplaySubject<void>(1);
  resources.defer(() => closed$.next());
  const watched: Watched = { map, clock, closed$ };
  const isArray = map.type === 'array' || map.type === 'perCpuArray';
  if (isPerCpu(map.type)) {
    const entries = new Entries(loaded, map.key, perCpuCodec(map.value, loaded), map.name);
    return isArray ? new PerCpuIndexedHandle(entries, watched, map.value) : new PerCpuKeyedHandle(entries, watched, map.value);
  }
  const entries = new Entries(loaded, map.key, codec(map.value, `value of '${map.name}'`), map.name);
  return isArray ? new IndexedHandle(entries, watched) : new SimpleHandle(entries, watched);
}

class SimpleHandle extends WatchedEntries<unknown, unknown> implements KeyedHandle<unknown, unknown> {
  get(key: unknown): unknown {
    return this.store.get(key);
  }

  set(key: unknown, value: unknown, flag?: UpdateFlag): void {
    this.store.set(key, value, flag);
  }

  delete(key: unknown): boolean {
    return this.store.delete(key);
  }

  entries(): Iterable<[key: unknown, value: unknown]> {
    return this.store.all();
  }

  getAll(): [key: unknown, value: unknown][] {
    return [...this.store.all()];
  }

  setMany(entries: Iterable<readonly [key: unknown, value: unknown]>): void {
    this.store.setMany(entries);
  }

  deleteMany(keys: Iterable<unknown>): number {
    return this.store.deleteMany(keys);
  }

  get size(): number {
    return this.store.count();
  }
}

class IndexedHandle extends WatchedEntries<number, unknown> implements ArrayHandle<unknown> {
  readonly size: number;

  constructor(entries: Entries<unknown>, watched: Watched) {
    super(entries, watched);
    this.size = entries.loaded.spec.maxEntries;
  }

  get(index: number): unknown {
    return this.store.get(index);
  }

  set(index: number, value: unknown): void {
    this.store.set(index, value);
  }

  entries(): Iterable<[index: number, value: unknown]> {
    return this.getAll();
  }

  getAll(): [index: number, value: unknown][] {
    return ordered(this.store.all());
  }

  setMany(entries: Iterable<readonly [index: number, value: unknown]>): void {
    this.store.setMany(entries);
  }
}

class PerCpuKeyedHandle extends WatchedEntries<unknown, unknown[], readonly unknown[]> implements PerCpuHandle<unknown, unknown> {
  readonly #schema: Schema<unknown>;

  constructor(entries: Entries<readonly unknown[]>, watched: Watched, schema: Schema<unknown>) {
    super(entries, watched);
    this.#schema = schema;
  }

  get(key: unknown): unknown[] | undefined {
    const values = this.store.get(key);
    return values && [...values];
  }

  sum(key: unknown): ReturnType<PerCpuHandle<unknown, unknown>['sum']> {
    const values = this.store.get(key);
    return values && sumValues(this.#schema, values);
  }

  set(key: unknown, values: readonly unknown[], flag?: UpdateFlag): void {
    this.store.set(key, values, flag);
  }

  delete(key: unknown): boolean {
    return this.store.delete(key);
  }

  *entries(): Iterable<[key: unknown, values: unknown[]]> {
    for (const [key, values] of this.store.all()) yield [key, [...values]];
  }

  getAll(): [key: unknown, values: unknown[]][] {
    return [...this.entries()];
  }

  setMany(entries: Iterable<readonly [key: unknown, values: readonly unknown[]]>): void {
    this.store.setMany(entries);
  }

  deleteMany(keys: Iterable<unknown>): number {
    return this.store.deleteMany(keys);
  }

  get size(): number {
    return this.store.count();
  }
}

class PerCpuIndexedHandle extends WatchedEntries<number, unknown[], readonly unknown[]> implements PerCpuArrayHandle<unknown> {
  readonly #schema: Schema<unknown>;
  readonly size: number;

  constructor(entries: Entries<readonly unknown[]>, watched: Watched, schema: Schema<unknown>) {
    super(entries, watched);
    this.#schema = schema;
    this.size = entries.loaded.spec.maxEntries;
  }

  get(index: number): unknown[] | undefined {
    const values = this.store.get(index);
    return values && [...values];
  }

  sum(index: number): ReturnType<PerCpuArrayHandle<unknown>['sum']> {
    const values = this.store.get(index);
    return values && sumValues(this.#schema, values);
  }

  set(index: number, values: readonly unknown[]): void {
    this.store.set(index, values);
  }

  entries(): Iterable<[index: number, values: unknown[]]> {
    return this.getAll();
  }

  getAll(): [index: number, values: unknown[]][] {
    return ordered(this.store.all()).map(([index, values]) => [index, [...values]]);
  }

  setMany(entries: Iterable<readonly [index: number, values: readonly unknown[]]>): void {
    this.store.setMany(entries);
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
