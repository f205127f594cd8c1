/**
 * The handle of a map of maps. The kernel tells of an inner map no more than its id, so this keeps those that were made
 * here by it, and finds the handle behind a key whoever put it there.
 */
import { ArgumentError, type EngineInstance, type LoadedMap } from '@tailrace/bpf';
import { type AnyMap, type InnerHandle, type MapsHandle, toMapSpec } from '@tailrace/stage';
import type { SchedulerLike } from 'rxjs';
import { type Codec, codec, encoded, viewOf } from './map-entries.ts';

/** What makes maps, and reads those that are rings. */
export type MapMaker = Pick<EngineInstance, 'createMap' | 'openRing'>;

interface Context {
  readonly maker: MapMaker;
  readonly clock: SchedulerLike;
  readonly resources: DisposableStack;
}
type HandleMaker = (map: AnyMap, loaded: LoadedMap, context: Context) => unknown;
type Inner = InnerHandle<object>;

/** Inner maps by key. */
export class InnerMaps implements MapsHandle<unknown, object> {
  readonly #outer: LoadedMap;
  readonly #inner: AnyMap;
  readonly #key: Codec<unknown>;
  readonly #maker: MapMaker;
  readonly #clock: SchedulerLike;
  readonly #handleOf: HandleMaker;
  readonly #open = new Map<number, { readonly loaded: LoadedMap; readonly handle: Inner }>();

  /** `handleOf` makes the handles of inner maps; what is still open is closed with `resources`. */
  constructor(map: AnyMap, outer: LoadedMap, { maker, clock, resources }: Context, handleOf: HandleMaker) {
    if (map.key === undefined || map.inner === undefined) throw new ArgumentError(`map '${map.name}' is no map of maps`);
    this.#outer = outer;
    this.#inner = map.inner;
    this.#key = codec(map.key, `key of '${map.name}'`);
    this.#maker = maker;
    this.#clock = clock;
    this.#handleOf = handleOf;
    resources.defer(() => {
      for (const { handle } of [...this.#open.values()]) handle.close();
    });
  }

  create(): Inner {
    using resources = new DisposableStack();
    const loaded = this.#maker.createMap(toMapSpec(this.#inner, `${this.#outer.spec.name}.${this.#inner.name}`));
    resources.defer(() => loaded.close());
    const handle = this.#handleOf(this.#inner, loaded, { maker: this.#maker, clock: this.#clock, resources }) as Inner;
    const kept = resources.move();
    const close = (): void => {
      this.#open.delete(loaded.id);
      kept.dispose();
    };
    Object.defineProperties(handle, { close: { value: close }, [Symbol.dispose]: { value: close } });
    this.#open.set(loaded.id, { loaded, handle });
    return handle;
  }

  async set(key: unknown, inner?: object): Promise<Inner> {
    const bytes = encoded(this.#key, key);
    if (inner !== undefined) return this.#put(bytes, inner);
    const fresh = this.create();
    try {
      return await this.#put(bytes, fresh);
    } catch (error) {
      fresh.close();
      throw error;
    }
  }

  get(key: unknown): Inner | undefined {
    const id = this.#outer.lookup(encoded(this.#key, key));
    return id && this.#open.get(viewOf(id).getUint32(0, true))?.handle;
  }

  async delete(key: unknown): Promise<boolean> {
    return this.#outer.clearMap(encoded(this.#key, key));
  }

  keys(): unknown[] {
    const { count, keys } = this.#outer.readAll();
    const view = viewOf(keys);
    return Array.from({ length: count }, (_, i) => this.#key.read(view, i * this.#key.bytes));
  }

  get size(): number {
    return this.#outer.readAll().count;
  }

  async #put(key: Uint8Array, inner: object): Promise<Inner> {
    const known = [...this.#open.values()].find(({ handle }) => handle === inner);
    if (known === undefined)
      throw new ArgumentError(`map ${this.#outer.spec.name}: the inner map is closed or another's`, {
        hint: 'put in what create() of the same handle gave',
      });
    await this.#outer.setMap(key, known.loaded);
    return known.handle;
  }
}
