/**
 * Timestamps of pcapng packets: 64-bit counts of a unit that each interface names, from a moment that it may shift.
 */

const NS_PER_SECOND = 1_000_000_000n;
const DECIMALS_OF_NS = 9;

/** Up to here a low word times the factor is an exact number. */
const MAX_FACTOR = 2 ** 21;

/** One interface's way of telling time. */
export class CaptureClock {
  readonly #numerator: bigint;
  readonly #denominator: bigint;
  readonly #offsetNs: bigint;
  /** The nanoseconds of one unit, where that is a small whole number; otherwise 0. */
  readonly #factor: number;
  #high = -1;
  #highNs = 0n;

  /**
   * `resolution` as in if_tsresol: the unit is 10 to the power of minus its low seven bits, or 2 where its high bit is set.
   * `offsetSeconds` as in if_tsoffset: what to add to every timestamp.
   */
  constructor(resolution: number, offsetSeconds: bigint) {
    const exponent = resolution & 0x7f;
    if (resolution & 0x80) {
      this.#numerator = NS_PER_SECOND;
      this.#denominator = 1n << BigInt(exponent);
    } else {
      this.#numerator = 10n ** BigInt(Math.max(0, DECIMALS_OF_NS - exponent));
      this.#denominator = 10n ** BigInt(Math.max(0, exponent - DECIMALS_OF_NS));
    }
    this.#offsetNs = offsetSeconds * NS_PER_SECOND;
    this.#factor = this.#denominator === 1n && this.#numerator <= MAX_FACTOR ? Number(this.#numerator) : 0;
  }

  /** Nanoseconds since 1970 of a timestamp's two words; what is finer is cut off. */
  nanoseconds(high: number, low: number): bigint {
    if (this.#factor === 0) return (((BigInt(high) << 32n) | BigInt(low)) * this.#numerator) / this.#denominator + this.#offsetNs;
    // the high word stays for an hour of microseconds, four seconds of nanoseconds
    if (high !== this.#high) {
      this.#high = high;
      this.#highNs = (BigInt(high) << 32n) * this.#numerator + this.#offsetNs;
    }
    return this.#highNs + BigInt(low * this.#factor);
  }
}
