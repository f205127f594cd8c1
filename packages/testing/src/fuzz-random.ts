/** Random choices that a seed repeats. */

/** A row of numbers by a seed (xorshift32, Marsaglia 2003, behind a mix of the seed). */
export class Random {
  #state: number;

  constructor(seed: number) {
    let mixed = Math.imul(seed ^ (seed >>> 16), 0x45d9f3b);
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x45d9f3b);
    this.#state = (mixed ^ (mixed >>> 16)) >>> 0 || 1;
  }

  /** 32 bits. */
  bits(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state;
  }

  /** 0 up to, but without, `end`. */
  below(end: number): number {
    return Math.floor((this.bits() / 0x1_0000_0000) * end);
  }

  /** Both ends are among them. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  /** True in so many cases of a hundred. */
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.bits() >>> 24);
  }

  /** A number that programs trip over: around powers of two, or any. */
  edge(): bigint {
    if (this.chance(30)) return (BigInt(this.bits()) << 32n) | BigInt(this.bits());
    const around = (1n << BigInt(this.pick([0, 1, 3, 7, 8, 15, 16, 31, 32, 33, 47, 62, 63]))) + BigInt(this.between(-2, 2));
    return BigInt.asUintN(64, this.chance(50) ? around : -around);
  }

  /** An immediate of 32 bits. */
  immediate(): number {
    return Number(BigInt.asIntN(32, this.edge()));
  }
}
