/**
 * Values of simulated maps without keys: what a queue gives first is what came first, what a stack gives first is what
 * came last. A bloom filter is simulated as the set that it stands for: it never says of a value that it has it where it
 * was not added, which the kernel's sometimes does.
 */
import { ArgumentError, type MapSpec } from '@tailrace/bpf';

/** The values of one queue, stack or bloom filter, as bytes. */
export class SimulatedStore {
  readonly #spec: MapSpec;
  #values: Uint8Array[] = [];

  constructor(spec: MapSpec) {
    this.#spec = spec;
  }

  /** Puts a value in; `replace` takes the oldest out where it is full. False where there is no room. */
  push(value: Uint8Array, replace = false): boolean {
    this.#check(value);
    const { type, maxEntries } = this.#spec;
    if (type === 'bloomFilter') {
      if (!this.has(value)) this.#values.push(value.slice());
      return true;
    }
    if (this.#values.length >= maxEntries) {
      if (!replace) return false;
      this.#values.shift();
    }
    this.#values.push(value.slice());
    return true;
  }

  /** A copy of the value that comes next, which stays. */
  peek(): Uint8Array | undefined {
    return this.#values.at(this.#spec.type === 'stack' ? -1 : 0)?.slice();
  }

  /** The value that comes next, which goes. */
  pop(): Uint8Array | undefined {
    return this.#spec.type === 'stack' ? this.#values.pop() : this.#values.shift();
  }

  /** Whether a value was added. */
  has(value: Uint8Array): boolean {
    this.#check(value);
    return this.#values.some((known) => Buffer.compare(known, value) === 0);
  }

  clear(): void {
    this.#values = [];
  }

  #check({ length }: Uint8Array): void {
    const { name, valueSize } = this.#spec;
    if (length !== valueSize) throw new ArgumentError(`map ${name}: a value of ${length} bytes, expected ${valueSize}`);
  }
}
