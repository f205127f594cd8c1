/** The maps that are values of a map of maps: in memory each is the address of its descriptor. */

/** What is kept of one. */
interface InnerMap {
  readonly address: number;
  hold(): void;
  release(): void;
}

/** Inner maps by address. They are held once for each key that they are under. */
export class InnerMaps<M extends InnerMap> {
  readonly #maps = new Map<number, { readonly map: M; keys: number }>();

  /** The map whose descriptor is there. */
  at(address: number): M | undefined {
    return this.#maps.get(address)?.map;
  }

  /** Counts one more key. Throws ArgumentError where the map is closed. */
  keep(map: M): void {
    map.hold();
    const known = this.#maps.get(map.address);
    if (known) known.keys += 1;
    else this.#maps.set(map.address, { map, keys: 1 });
  }

  /** Counts one key less; nothing where there is no such map. */
  drop(address: number): void {
    const known = this.#maps.get(address);
    if (!known) return;
    known.keys -= 1;
    if (known.keys === 0) this.#maps.delete(address);
    known.map.release();
  }

  dropAll(): void {
    for (const [address, { keys }] of [...this.#maps]) for (let i = 0; i < keys; i++) this.drop(address);
  }
}
