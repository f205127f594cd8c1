/** The pins of program arrays: one for each generation of a chain, and the old ones go once nothing runs them any more. */
import type { LoadedMap, PinFolder } from '@tailrace/bpf';

/** The arrays of one pipeline. */
export class KeptArrays {
  readonly #folder: PinFolder;
  readonly #pin: (map: LoadedMap, as: string) => LoadedMap;
  readonly #arrays = new Map<string, LoadedMap>();
  /** Of a change that is under way, by pin. */
  readonly #changing = new Set<string>();

  /** `pin` pins a map that was made here, or closes it. */
  constructor(folder: PinFolder, pin: (map: LoadedMap, as: string) => LoadedMap) {
    this.#folder = folder;
    this.#pin = pin;
  }

  /** Pins one of a generation. */
  keep(array: LoadedMap): LoadedMap {
    const taken = new Set(this.#folder.list());
    let number = 1;
    while (taken.has(pinAs(array.spec.name, number))) number += 1;
    const pin = pinAs(array.spec.name, number);
    this.#pin(array, pin);
    this.#arrays.set(pin, array);
    this.#changing.add(pin);
    return array;
  }

  /** The change that is under way was made. */
  settle(): void {
    this.#changing.clear();
  }

  /** It came to nothing, and its arrays are closed: their pins go. */
  abandon(): void {
    for (const pin of this.#changing) {
      this.#folder.remove(pin);
      this.#arrays.delete(pin);
    }
    this.#changing.clear();
  }

  /** Removes the pins of all but these, those that other processes made among them. */
  sweep(live: ReadonlySet<LoadedMap>): void {
    for (const pin of this.#folder.list()) {
      const array = this.#arrays.get(pin);
      if (!pin.startsWith('array:') || (array && live.has(array))) continue;
      this.#folder.remove(pin);
      this.#arrays.delete(pin);
    }
  }
}

function pinAs(name: string, number: number): string {
  return `array:${number}:${name}`;
}
