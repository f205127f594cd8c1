/** Handles of maps that take file descriptors: sockets, AF_XDP sockets. */
import type { LoadedMap, UpdateFlag } from '@tailrace/bpf';
import type { AnyMap, DescriptorHandle, SocketHandle } from '@tailrace/stage';
import { codec, Entries } from './map-entries.ts';

/** Slots that descriptors go into and never come out of. */
export class DescriptorSlots implements DescriptorHandle<unknown> {
  readonly #entries: Entries<unknown>;

  constructor(map: AnyMap, loaded: LoadedMap) {
    this.#entries = new Entries(loaded, map.key, codec(map.value, `descriptor of '${map.name}'`), map.name);
  }

  set(key: unknown, fd: number, flag?: UpdateFlag): void {
    this.#entries.set(key, fd, flag);
  }

  delete(key: unknown): void {
    this.#entries.delete(key);
  }
}

/** Sockets under keys. The kernel takes a descriptor, as a u64, and gives the socket's cookie. */
export class SocketEntries implements SocketHandle<unknown> {
  readonly #entries: Entries<unknown>;

  constructor(map: AnyMap, loaded: LoadedMap) {
    this.#entries = new Entries(loaded, map.key, codec(map.value, `descriptor of '${map.name}'`), map.name);
  }

  set(key: unknown, fd: number, flag?: UpdateFlag): void {
    this.#entries.set(key, BigInt(fd), flag);
  }

  cookie(key: unknown): bigint | undefined {
    return this.#entries.get(key) as bigint | undefined;
  }

  delete(key: unknown): boolean {
    return this.#entries.delete(key);
  }

  keys(): unknown[] {
    return this.#entries.keys();
  }

  get size(): number {
    return this.#entries.count();
  }
}
