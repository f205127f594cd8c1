/**
 * Intervals of integers, unbounded: what the compiler knows of a number or bigint. A number must stay within ±2^53,
 * where JavaScript computes exactly; a bigint is exact while its interval fits 64 bits, signed or unsigned.
 */
export interface Range {
  readonly lo: bigint;
  readonly hi: bigint;
}

export const range = (lo: bigint, hi: bigint): Range => ({ lo, hi });
export const exactly = (value: bigint): Range => ({ lo: value, hi: value });

const MAX_EXACT = 1n << 53n;
export const INT32 = range(-(1n << 31n), (1n << 31n) - 1n);
export const UINT16 = range(0n, (1n << 16n) - 1n);
export const UINT32 = range(0n, (1n << 32n) - 1n);
export const UINT64 = range(0n, (1n << 64n) - 1n);
export const INT64 = range(-(1n << 63n), (1n << 63n) - 1n);
export const SAFE = range(-MAX_EXACT, MAX_EXACT);

/** All values of an integer of `size` bytes. */
export function ofInteger(size: number, signed: boolean): Range {
  const bits = BigInt(size * 8);
  return signed ? range(-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n) : range(0n, (1n << bits) - 1n);
}

export const within = (a: Range, b: Range): boolean => a.lo >= b.lo && a.hi <= b.hi;
export const disjoint = (a: Range, b: Range): boolean => a.hi < b.lo || b.hi < a.lo;
export const union = (a: Range, b: Range): Range => range(min(a.lo, b.lo), max(a.hi, b.hi));
export const isConstant = (a: Range): boolean => a.lo === a.hi;

/** The overlap, or `a` where there is none (the path cannot be taken). */
export function intersect(a: Range, b: Range): Range {
  return disjoint(a, b) ? a : range(max(a.lo, b.lo), min(a.hi, b.hi));
}

export const add = (a: Range, b: Range): Range => range(a.lo + b.lo, a.hi + b.hi);
export const subtract = (a: Range, b: Range): Range => range(a.lo - b.hi, a.hi - b.lo);

export function multiply(a: Range, b: Range): Range {
  const products = [a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi];
  return range(products.reduce(min), products.reduce(max));
}

/** Division that truncates, of non-negative values by a positive one. */
export const divide = (a: Range, b: Range): Range => range(a.lo / b.hi, a.hi / b.lo);
/** Remainder of non-negative values. */
export const remainder = (a: Range, b: Range): Range => (a.hi < b.lo ? a : range(0n, min(a.hi, b.hi - 1n)));
/** The smallest 2^k - 1 that covers a non-negative value. */
export const mask = (value: bigint): bigint => (1n << BigInt(value.toString(2).length)) - 1n;

/** `a & b` where at least one is never negative. */
export function and(a: Range, b: Range): Range {
  if (isConstant(a) && isConstant(b)) return exactly(a.lo & b.lo);
  if (a.lo < 0n) return range(0n, b.hi);
  if (b.lo < 0n) return range(0n, a.hi);
  return range(0n, min(a.hi, b.hi));
}

/** `a | b` of values that are never negative. */
export const or = (a: Range, b: Range): Range => range(max(a.lo, b.lo), mask(max(a.hi, b.hi)));
/** `a ^ b` of values that are never negative. */
export const xor = (a: Range, b: Range): Range => range(0n, mask(max(a.hi, b.hi)));

/** Any bitwise operation on values that may be negative: it has no more bits than the longer of both. */
export function bitwise(a: Range, b: Range): Range {
  const most = mask([a.lo, a.hi, b.lo, b.hi].map((end) => (end < 0n ? -end - 1n : end)).reduce(max));
  return range(-most - 1n, most);
}

/** `is 5`, or `may be 0..7`. */
export const mayBe = (a: Range): string => (isConstant(a) ? `is ${a.lo}` : `may be ${a.lo}..${a.hi}`);

export function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
export function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
