/**
 * What eBPF computes (RFC 9669, sections 4.1 to 4.3), on constants. Values are the 64 bits of a register, kept as
 * signed bigints. Division by zero yields 0, modulo by zero the left side; shift amounts are masked.
 */
import type { BinaryOp, CompareOp, UnaryOp } from '../ir.ts';

/** The 64 bits of a value as the signed number that `Const` keeps. */
export function signed64(value: bigint): bigint {
  return BigInt.asIntN(64, value);
}

/** `left op right`; of width 32 the result is zero-extended. */
export function evaluateBinary(op: BinaryOp, width: 32 | 64, left: bigint, right: bigint): bigint {
  return signed64(BigInt.asUintN(width, compute(op, width, left, right)));
}

function compute(op: BinaryOp, width: 32 | 64, left: bigint, right: bigint): bigint {
  const a = BigInt.asUintN(width, left);
  const b = BigInt.asUintN(width, right);
  const sa = BigInt.asIntN(width, left);
  const sb = BigInt.asIntN(width, right);
  const amount = b & BigInt(width - 1);
  switch (op) {
    case 'add':
      return a + b;
    case 'sub':
      return a - b;
    case 'mul':
      return a * b;
    case 'div':
      return b === 0n ? 0n : a / b;
    case 'mod':
      return b === 0n ? a : a % b;
    case 'sdiv':
      return sb === 0n ? 0n : sa / sb;
    case 'smod':
      return sb === 0n ? sa : sa % sb;
    case 'and':
      return a & b;
    case 'or':
      return a | b;
    case 'xor':
      return a ^ b;
    case 'lsh':
      return a << amount;
    case 'rsh':
      return a >> amount;
    case 'arsh':
      return sa >> amount;
  }
}

/** `op operand` */
export function evaluateUnary(op: UnaryOp, operand: bigint): bigint {
  switch (op) {
    case 'neg':
      return signed64(-operand);
    case 'sext8':
    case 'sext16':
    case 'sext32':
      return BigInt.asIntN(unaryBits(op), operand);
    case 'zext8':
    case 'zext16':
    case 'zext32':
      return BigInt.asUintN(unaryBits(op), operand);
    case 'swap16':
    case 'swap32':
    case 'swap64':
      return signed64(swapBytes(operand, unaryBits(op)));
  }
}

/** Low bits that a unary operation looks at. */
export function unaryBits(op: UnaryOp): 8 | 16 | 32 | 64 {
  switch (op) {
    case 'sext8':
    case 'zext8':
      return 8;
    case 'sext16':
    case 'zext16':
    case 'swap16':
      return 16;
    case 'sext32':
    case 'zext32':
    case 'swap32':
      return 32;
    case 'neg':
    case 'swap64':
      return 64;
  }
}

/** The low `bits` bits with their bytes reversed, unsigned. */
export function swapBytes(value: bigint, bits: number): bigint {
  let out = 0n;
  for (let shift = 0; shift < bits; shift += 8) out = (out << 8n) | ((value >> BigInt(shift)) & 0xffn);
  return out;
}

/** Whether `left op right` holds in the low `width` bits. */
export function evaluateCompare(op: CompareOp, width: 32 | 64, left: bigint, right: bigint): boolean {
  const a = BigInt.asUintN(width, left);
  const b = BigInt.asUintN(width, right);
  const sa = BigInt.asIntN(width, left);
  const sb = BigInt.asIntN(width, right);
  switch (op) {
    case 'eq':
      return a === b;
    case 'ne':
      return a !== b;
    case 'gt':
      return a > b;
    case 'ge':
      return a >= b;
    case 'lt':
      return a < b;
    case 'le':
      return a <= b;
    case 'sgt':
      return sa > sb;
    case 'sge':
      return sa >= sb;
    case 'slt':
      return sa < sb;
    case 'sle':
      return sa <= sb;
    case 'set':
      return (a & b) !== 0n;
  }
}

/** The comparison with its sides exchanged. */
export const MIRRORED: Readonly<Record<CompareOp, CompareOp>> = {
  eq: 'eq',
  ne: 'ne',
  set: 'set',
  gt: 'lt',
  lt: 'gt',
  ge: 'le',
  le: 'ge',
  sgt: 'slt',
  slt: 'sgt',
  sge: 'sle',
  sle: 'sge',
};

/** The comparison that holds where the other does not; `set` has none. */
export const NEGATED: Readonly<Record<Exclude<CompareOp, 'set'>, CompareOp>> = {
  eq: 'ne',
  ne: 'eq',
  gt: 'le',
  le: 'gt',
  ge: 'lt',
  lt: 'ge',
  sgt: 'sle',
  sle: 'sgt',
  sge: 'slt',
  slt: 'sge',
};
