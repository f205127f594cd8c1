/**
 * What is known of a value wherever it is used: an unsigned and a signed range of its 64 bits, and the bits that may be
 * set. Ranges of loops are not computed; a phi that depends on itself is taken as anything.
 */
import type { Binary, MemorySize, Unary, Value } from '../ir.ts';
import { evaluateBinary, evaluateUnary, swapBytes, unaryBits } from './evaluate.ts';

export interface Known {
  /** Smallest and largest value as unsigned 64 bits. */
  readonly min: bigint;
  readonly max: bigint;
  /** Smallest and largest value as signed 64 bits. */
  readonly smin: bigint;
  readonly smax: bigint;
  /** Bits that may be 1, unsigned. */
  readonly bits: bigint;
}

const U64 = (1n << 64n) - 1n;
const S64_MAX = (1n << 63n) - 1n;
const S64_MIN = -(1n << 63n);
const U32 = 0xffff_ffffn;

const ANYTHING: Known = { min: 0n, max: U64, smin: S64_MIN, smax: S64_MAX, bits: U64 };

/** Pointers: addition keeps them from null, since only what is no null is added to. */
const NOT_NULL: Known = { ...ANYTHING, min: 1n };

/** Whose knowledge it is, and where. */
export interface KnowledgeOptions {
  /**
   * Only what the kernel's verifier knows as well (kernel/bpf/verifier.c): it follows no division, swap, negation or
   * extension by shifts. What guards an index for its sake is decided by this alone, so that the guard stays.
   */
  readonly asVerifier?: boolean;
  /**
   * What holds wherever a value is used, and what holds besides at one place. A phi's inputs may be of an earlier trip
   * around a loop, so that what holds at that place says nothing of them.
   */
  readonly place?: { readonly everywhere: KnownValues; readonly refine: (value: Value, known: Known) => Known };
}

/** What is known of values, computed on demand and remembered. Make a new one after the graph changed. */
export class KnownValues {
  private readonly facts = new Map<Value, Known>();
  private readonly options: KnowledgeOptions;

  constructor(options: KnowledgeOptions = {}) {
    this.options = options;
  }

  of(value: Value): Known {
    const known = this.facts.get(value);
    if (known) return known;
    this.facts.set(value, ANYTHING);
    const { place } = this.options;
    const computed = place && value.kind === 'phi' ? place.everywhere.of(value) : this.compute(value);
    const refined = place ? place.refine(value, computed) : computed;
    this.facts.set(value, refined);
    return refined;
  }

  /** True where all bits from `bits` up are zero. */
  fitsUnsigned(value: Value, bits: number): boolean {
    return this.of(value).bits >> BigInt(bits) === 0n;
  }

  /** True where the 64 bits are the sign extension of the low `bits`. */
  fitsSigned(value: Value, bits: number): boolean {
    const limit = 1n << BigInt(bits - 1);
    const { smin, smax } = this.of(value);
    return smin >= -limit && smax < limit;
  }

  private compute(value: Value): Known {
    switch (value.kind) {
      case 'const':
        return exactly(value.value);
      case 'load':
        return value.pointer === undefined ? unsigned(0n, sizeMask(value.size)) : NOT_NULL;
      case 'context':
      case 'stackAddress':
      case 'mapValueAddress':
        return NOT_NULL;
      case 'unary':
        if (this.options.asVerifier && !value.op.startsWith('zext')) return ANYTHING;
        return unaryFacts(value, this.of(value.operand));
      case 'binary':
        return this.binary(value);
      case 'phi':
        // A block that a pass just cut off may have phis without inputs until it is dropped.
        return value.inputs.length === 0 ? ANYTHING : value.inputs.map((input) => this.of(input)).reduce(union);
      default:
        return ANYTHING;
    }
  }

  private binary(node: Binary): Known {
    if (node.pointer !== undefined) return NOT_NULL;
    const left = this.of(node.left);
    const right = this.of(node.right);
    if (left.min === left.max && right.min === right.max) return exactly(evaluateBinary(node.op, node.width, left.min, right.min));
    if (this.options.asVerifier && isUnfollowed(node, left, right)) return ANYTHING;
    return node.width === 64 ? binaryFacts(node, left, right) : zeroExtended32(node, low32(left), low32(right));
  }
}

/** Arithmetic of which the verifier takes the result to be anything. */
function isUnfollowed(node: Binary, left: Known, right: Known): boolean {
  if (node.op === 'mul') return left.max > U32 || right.max > U32;
  return node.op === 'div' || node.op === 'mod' || node.op === 'sdiv' || node.op === 'smod';
}

/** One number, signed or unsigned. */
export function exactly(value: bigint): Known {
  const u = BigInt.asUintN(64, value);
  return { min: u, max: u, smin: BigInt.asIntN(64, value), smax: BigInt.asIntN(64, value), bits: u };
}

/** A range of unsigned numbers, tightened by the bits that may be set. */
function unsigned(min: bigint, max: bigint, bits: bigint = maskOf(max)): Known {
  const possible = bits & maskOf(max);
  const top = max < possible ? max : possible;
  return top <= S64_MAX
    ? { min, max: top, smin: min, smax: top, bits: possible }
    : { min, max: top, smin: min > S64_MAX ? BigInt.asIntN(64, min) : S64_MIN, smax: S64_MAX, bits: possible };
}

/** A range of signed numbers. */
function signed(smin: bigint, smax: bigint): Known {
  if (smin < S64_MIN || smax > S64_MAX) return ANYTHING;
  if (smin >= 0n) return unsigned(smin, smax);
  if (smax < 0n) return { min: BigInt.asUintN(64, smin), max: BigInt.asUintN(64, smax), smin, smax, bits: U64 };
  return { min: 0n, max: U64, smin, smax, bits: U64 };
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function larger(a: bigint, b: bigint): bigint {
  return a < b ? b : a;
}

function union(a: Known, b: Known): Known {
  return {
    min: smaller(a.min, b.min),
    max: larger(a.max, b.max),
    smin: smaller(a.smin, b.smin),
    smax: larger(a.smax, b.smax),
    bits: a.bits | b.bits,
  };
}

const MASKS: readonly bigint[] = Array.from({ length: 65 }, (_, bits) => (1n << BigInt(bits)) - 1n);

/** All ones up to the highest bit of `value`, which has 64 at most. */
function maskOf(value: bigint): bigint {
  const high = Number(value >> 32n);
  const bits = high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(Number(value));
  return MASKS[bits] ?? U64;
}

function sizeMask(size: MemorySize): bigint {
  return (1n << BigInt(8 * size)) - 1n;
}

/** Facts about the low 32 bits alone, zero-extended. */
function low32(known: Known): Known {
  return known.max <= U32 ? known : unsigned(0n, U32, known.bits & U32);
}

function zeroExtended32(node: Binary, left: Known, right: Known): Known {
  if (node.op === 'arsh' || node.op === 'sdiv' || node.op === 'smod') {
    const isNatural = left.max < 1n << 31n && (node.op === 'arsh' || right.max < 1n << 31n);
    if (!isNatural) return unsigned(0n, U32);
  }
  return low32(binaryFacts(node, left, right));
}

function unaryFacts(node: Unary, operand: Known): Known {
  if (operand.min === operand.max) return exactly(evaluateUnary(node.op, operand.min));
  const bits = BigInt(unaryBits(node.op));
  const mask = (1n << bits) - 1n;
  switch (node.op) {
    case 'neg':
      return operand.smin > S64_MIN ? signed(-operand.smax, -operand.smin) : ANYTHING;
    case 'zext8':
    case 'zext16':
    case 'zext32':
      return operand.max <= mask ? operand : unsigned(0n, mask, operand.bits & mask);
    case 'sext8':
    case 'sext16':
    case 'sext32': {
      const limit = 1n << (bits - 1n);
      if (operand.smin >= -limit && operand.smax < limit) return operand;
      return signed(-limit, limit - 1n);
    }
    case 'swap16':
    case 'swap32':
    case 'swap64':
      return unsigned(0n, mask, swapBytes(operand.bits & mask, Number(bits)));
  }
}

/** Arithmetic in 64 bits; of 32-bit operations the caller cuts the result. */
function binaryFacts(node: Binary, left: Known, right: Known): Known {
  const shift = right.min === right.max ? right.min & BigInt(node.width - 1) : undefined;
  switch (node.op) {
    case 'add':
      if (left.max + right.max <= U64) return unsigned(left.min + right.min, left.max + right.max);
      return signed(left.smin + right.smin, left.smax + right.smax);
    case 'sub':
      if (left.min >= right.max) return unsigned(left.min - right.max, left.max - right.min);
      return node.width === 64 ? signed(left.smin - right.smax, left.smax - right.smin) : ANYTHING;
    case 'mul':
      return left.max * right.max <= U64 ? unsigned(left.min * right.min, left.max * right.max) : ANYTHING;
    case 'div':
      return right.min > 0n ? unsigned(left.min / right.max, left.max / right.min) : unsigned(0n, left.max);
    case 'mod': {
      if (right.min === 0n) return unsigned(0n, left.max);
      return left.max < right.min ? left : unsigned(0n, left.max < right.max - 1n ? left.max : right.max - 1n);
    }
    case 'sdiv':
    case 'smod':
      return left.smin >= 0n && right.smin >= 0n ? unsigned(0n, left.max) : ANYTHING;
    case 'and':
      return unsigned(0n, smaller(left.max, right.max), left.bits & right.bits);
    case 'or':
      return unsigned(larger(left.min, right.min), maskOf(left.max | right.max), left.bits | right.bits);
    case 'xor':
      return unsigned(0n, maskOf(left.max | right.max), left.bits | right.bits);
    case 'lsh':
      if (shift === undefined || left.max << shift > U64) return ANYTHING;
      return unsigned(left.min << shift, left.max << shift, left.bits << shift);
    case 'rsh':
      return shift === undefined ? unsigned(0n, left.max) : unsigned(left.min >> shift, left.max >> shift, left.bits >> shift);
    case 'arsh':
      if (shift === undefined) return left.smin >= 0n ? unsigned(0n, left.max) : ANYTHING;
      return signed(left.smin >> shift, left.smax >> shift);
  }
}

/** Ranges that are to hold all at once, each tightened by the others; undefined where nothing is left. */
export function between(range: Known): Known | undefined {
  let { min, max, smin, smax } = range;
  max = smaller(max, maskOf(range.bits));
  if (smin >= 0n) {
    min = larger(min, smin);
    max = smaller(max, smax);
  }
  if (max <= S64_MAX) {
    smin = larger(smin, min);
    smax = smaller(smax, max);
  }
  return min > max || smin > smax ? undefined : { min, max, smin, smax, bits: range.bits & maskOf(max) };
}
