/**
 * A bijection of 64-bit keys that spreads them: what is near before is far apart after, and nothing is lost. And 64 bits
 * out of wider keys.
 */
import { ArgumentError, fn, u64 } from '@tailrace/stage';

const ALL = 64;
const FIRST = 0x9e37_79b9_7f4a_7c15n;
const SECOND = 0xd6e8_feb8_6659_fd93n;
const THIRD = 0xa076_1d64_78bd_642fn;
const FIRST_INVERSE = inverse(FIRST);
const SECOND_INVERSE = inverse(SECOND);

/**
 * Multiplies by an odd constant, folds the upper half into the lower and multiplies again: each step can be undone. The
 * upper bits depend on all bits of the key; take those. Withstands nobody who chooses keys.
 */
export const mix = fn([u64], u64, { first: FIRST, second: SECOND }, (key, { first, second }) => {
  const half = BigInt.asUintN(64, key * first);
  return BigInt.asUintN(64, (half ^ (half >> 32n)) * second);
});

/** `mix` for the control plane. */
export function mixed(key: bigint): bigint {
  const half = BigInt.asUintN(ALL, key * FIRST);
  return BigInt.asUintN(ALL, (half ^ (half >> 32n)) * SECOND);
}

/** Undoes `mix`. */
export function unmix(mixed: bigint): bigint {
  const folded = BigInt.asUintN(ALL, mixed * SECOND_INVERSE);
  return BigInt.asUintN(ALL, (folded ^ (folded >> 32n)) * FIRST_INVERSE);
}

/**
 * 64 bits out of a key of 160: two halves of an IPv6 address, say, and 32 bits more. Different keys may have the same, so
 * whoever finds something by it compares the key.
 */
export const digest = fn([u64, u64, u64], u64, { mix, third: THIRD }, (hi, lo, low, { mix, third }) =>
  mix(lo ^ mix(hi ^ BigInt.asUintN(64, low * third))),
);

/** `digest` for the control plane. */
export function digested({ hi, lo, low }: WideKey): bigint {
  return mixed(lo ^ mixed(hi ^ BigInt.asUintN(ALL, low * THIRD)));
}

/** A key of 160 bits: two of 0..2^64-1, and `low` of 0..2^32-1. */
export interface WideKey {
  readonly hi: bigint;
  readonly lo: bigint;
  readonly low: bigint;
}

/** Throws ArgumentError for a part that does not fit; `owner` starts the message. */
export function checkWideKey(owner: string, { hi, lo, low }: WideKey): void {
  for (const [name, part, bits] of [
    ['hi', hi, 64n],
    ['lo', lo, 64n],
    ['low', low, 32n],
  ] as const)
    if (part < 0n || part >= 1n << bits) throw new ArgumentError(`${owner}: key.${name} is ${part}, expected 0..${(1n << bits) - 1n}`);
}

/** The inverse of an odd number modulo 2^64: each of Newton's steps doubles the bits that are right, from three. */
function inverse(odd: bigint): bigint {
  let guess = odd;
  for (let bits = 3; bits < ALL; bits *= 2) guess = BigInt.asUintN(ALL, guess * (2n - odd * guess));
  return guess;
}
