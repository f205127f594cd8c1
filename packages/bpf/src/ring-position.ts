/**
 * How far a reader is, in memory that it shares with programs. Positions count bytes for ever; the lower 32 bits are enough to
 * tell them apart, and are kept as a signed number: `Atomics` on words is what V8 makes fast.
 */
const HALF = 1n << 32n;

/** A reader's position. */
export class RingPosition {
  /** Lower half, signed. */
  at: number;
  readonly #words: Int32Array;
  readonly #longs: BigUint64Array;
  /** Index of the whole number. */
  readonly #index: number;
  /** Where programs know us. */
  #released: number;

  /** `offset`: bytes from the buffer's start to the number (u64, little-endian), which programs read. */
  constructor(buffer: ArrayBufferLike, offset: number) {
    this.#words = new Int32Array(buffer);
    this.#longs = new BigUint64Array(buffer, 0, Math.floor(buffer.byteLength / 8));
    this.#index = offset / 8;
    this.at = Atomics.load(this.#words, this.#index * 2);
    this.#released = this.at;
  }

  /** Goes on by so many bytes. */
  advance(bytes: number): void {
    this.at = (this.at + bytes) | 0;
  }

  /** Lets programs have the places of what was gone past. The store comes after all loads of them. */
  release(): void {
    const [from, to] = [this.#released >>> 0, this.at >>> 0];
    if (to < from) Atomics.store(this.#longs, this.#index, ((Atomics.load(this.#longs, this.#index) >> 32n) + 1n) * HALF + BigInt(to));
    else if (to > from) Atomics.store(this.#words, this.#index * 2, this.at);
    this.#released = this.at;
  }
}
