/** Handles of kinds without keys: queues, stacks, bloom filters. */
import type { LoadedMap } from '@tailrace/bpf';
import type { AnyMap, BloomHandle, PushFlag, QueueHandle } from '@tailrace/stage';
import { type Codec, codec, encoded, viewOf } from './map-entries.ts';

const NO_KEY = new Uint8Array(0);

/** Values that go through a queue or a stack. */
export class ValuesHandle implements QueueHandle<unknown> {
  readonly #loaded: LoadedMap;
  readonly #value: Codec<unknown>;

  constructor(map: AnyMap, loaded: LoadedMap) {
    this.#loaded = loaded;
    this.#value = codec(map.value, `value of '${map.name}'`);
  }

  push(value: unknown, flag?: PushFlag): void {
    this.#loaded.update(NO_KEY, encoded(this.#value, value), flag);
  }

  pop(): unknown {
    return this.#decoded(this.#loaded.pop());
  }

  peek(): unknown {
    return this.#decoded(this.#loaded.lookup(NO_KEY));
  }

  #decoded(bytes: Uint8Array | undefined): unknown {
    return bytes && this.#value.read(viewOf(bytes), 0);
  }
}

/** Values that a bloom filter was given. */
export class FilterHandle implements BloomHandle<unknown> {
  readonly #loaded: LoadedMap;
  readonly #value: Codec<unknown>;

  constructor(map: AnyMap, loaded: LoadedMap) {
    this.#loaded = loaded;
    this.#value = codec(map.value, `value of '${map.name}'`);
  }

  add(value: unknown): void {
    this.#loaded.update(NO_KEY, encoded(this.#value, value));
  }

  has(value: unknown): boolean {
    return this.#loaded.has(encoded(this.#value, value));
  }
}
