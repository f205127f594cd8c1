/**
 * JavaScript's operators over numbers (exact within ±2^53, bitwise on signed 32 bits) and bigints (modulo 2^64),
 * with the interval of every result.
 */
import type { Node as SyntaxNode } from 'acorn';
import type { BinaryOp } from '../ir.ts';
import * as R from '../range.ts';
import type { Lowering } from './lowering.ts';
import { type BigintOperand, contentHint, describe, type NumberOperand, type Operand } from './operand.ts';
import { bigint, exact, exactness, known, low32, signed32, unsigned32 } from './scalar.ts';

/** Operators with two operands that give a value, as JavaScript spells them. */
export const ARITHMETIC = ['+', '-', '*', '/', '%', '&', '|', '^', '<<', '>>', '>>>'] as const;
export type ArithmeticOperator = (typeof ARITHMETIC)[number];

export function arithmetic(lowering: Lowering, node: SyntaxNode, operator: ArithmeticOperator, left: Operand, right: Operand): Operand {
  if (left.kind === 'number' && right.kind === 'number') return numbers(lowering, node, operator, left, right);
  if (left.kind === 'bigint' && right.kind === 'bigint') return bigints(lowering, node, operator, left, right);
  for (const side of [left, right]) if (side.kind === 'conflict') lowering.fail(node, 'type', side.message, side.hint);
  if ((left.kind === 'number' && right.kind === 'bigint') || (left.kind === 'bigint' && right.kind === 'number')) {
    lowering.fail(node, 'type', 'a number and a bigint are mixed', 'write 1n for 1, or BigInt(x), or Number(x)');
  }
  const odd = left.kind === 'number' || left.kind === 'bigint' ? right : left;
  return lowering.fail(node, 'type', `${describe(odd)} as an operand of ${operator}`, contentHint(odd));
}

// --- numbers -------------------------------------------------------------------------------------

function numbers(
  lowering: Lowering,
  node: SyntaxNode,
  operator: ArithmeticOperator,
  left: NumberOperand,
  right: NumberOperand,
): NumberOperand {
  if (R.isConstant(left.range) && R.isConstant(right.range) && operator !== '/' && !(operator === '%' && right.range.lo === 0n)) {
    const result = fold(operator, Number(left.range.lo), Number(right.range.lo));
    if (Math.abs(result) <= Number(R.SAFE.hi)) return lowering.number(result);
  }
  switch (operator) {
    case '+':
      return checked(lowering, node, 'add', left, right, R.add(left.range, right.range), 'write (a + b) >>> 0 for a sum of 32 bits');
    case '-':
      return checked(
        lowering,
        node,
        'sub',
        left,
        right,
        R.subtract(left.range, right.range),
        'write (a - b) >>> 0 for a difference of 32 bits',
      );
    case '*':
      return checked(
        lowering,
        node,
        'mul',
        left,
        right,
        R.multiply(left.range, right.range),
        'write Math.imul(a, b) for a product of 32 bits',
      );
    case '/':
      return lowering.fail(
        node,
        'type',
        'number / number is a fraction in JavaScript',
        'write Math.trunc(a / b), (a / b) >>> 0 or a >>> k',
      );
    case '%':
      return remainder(lowering, node, left, right);
    case '&':
      return bitwiseAnd(lowering, left, right);
    case '|':
    case '^':
      return bitwiseOrXor(lowering, operator, left, right);
    case '<<':
      return shiftLeft(lowering, left, right);
    case '>>':
      return shiftRight(lowering, left, right);
    case '>>>':
      return shiftRightUnsigned(lowering, left, right);
  }
}

function fold(operator: ArithmeticOperator, a: number, b: number): number {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '%':
      return a % b;
    case '&':
      return a & b;
    case '|':
      return a | b;
    case '^':
      return a ^ b;
    case '<<':
      return a << b;
    case '>>':
      return a >> b;
    default:
      return a >>> b;
  }
}

function checked(
  lowering: Lowering,
  node: SyntaxNode,
  op: BinaryOp,
  left: NumberOperand,
  right: NumberOperand,
  range: R.Range,
  hint: string,
): NumberOperand {
  if (!R.within(range, R.SAFE)) lowering.fail(node, 'range', 'the result may leave ±2^53, where numbers are exact', hint);
  return known(lowering, lowering.binary(op, exact(lowering, left), exact(lowering, right)), range);
}

/** `Math.trunc(a / b)`. */
export function truncatedQuotient(lowering: Lowering, node: SyntaxNode, left: NumberOperand, right: NumberOperand): NumberOperand {
  nonNegative(lowering, node, left, 'divided');
  divisor(lowering, node, right);
  return known(
    lowering,
    lowering.binary('div', exact(lowering, left), exact(lowering, right), narrow(left, right)),
    R.divide(left.range, right.range),
  );
}

function remainder(lowering: Lowering, node: SyntaxNode, left: NumberOperand, right: NumberOperand): NumberOperand {
  nonNegative(lowering, node, left, 'divided');
  divisor(lowering, node, right);
  return known(
    lowering,
    lowering.binary('mod', exact(lowering, left), exact(lowering, right), narrow(left, right)),
    R.remainder(left.range, right.range),
  );
}

const narrow = (a: NumberOperand, b: NumberOperand): 32 | 64 => (R.within(a.range, R.UINT32) && R.within(b.range, R.UINT32) ? 32 : 64);

function nonNegative(lowering: Lowering, node: SyntaxNode, operand: NumberOperand, what: string): void {
  if (operand.range.lo < 0n)
    lowering.fail(
      node,
      'range',
      `a value that may be negative (${operand.range.lo}..${operand.range.hi}) is ${what}`,
      'make it unsigned first: x >>> 0',
    );
}

function divisor(lowering: Lowering, node: SyntaxNode, operand: NumberOperand | BigintOperand): void {
  if (operand.range.lo <= 0n)
    lowering.fail(node, 'range', `the divisor may be ${operand.range.lo < 0n ? 'negative' : 'zero'}`, 'test it first: if (x > 0) …');
}

function bitwiseAnd(lowering: Lowering, left: NumberOperand, right: NumberOperand): NumberOperand {
  const masks = [left, right].some((o) => o.range.lo >= 0n && R.within(o.range, R.INT32));
  const range = masks ? R.and(toInt32(left), toInt32(right)) : R.INT32;
  return signed32(lowering, lowering.binary('and', low32(lowering, left), low32(lowering, right), 32), range);
}

/** What ToInt32 makes of an interval. */
function toInt32(operand: NumberOperand): R.Range {
  return R.within(operand.range, R.INT32) ? operand.range : R.INT32;
}

function bitwiseOrXor(lowering: Lowering, operator: '|' | '^', left: NumberOperand, right: NumberOperand): NumberOperand {
  const positive = [left, right].every((o) => o.range.lo >= 0n && R.within(o.range, R.INT32));
  // x | 0 is the usual way to write ToInt32
  if (operator === '|' && R.isConstant(right.range) && right.range.lo === 0n && R.within(left.range, R.INT32)) return left;
  const range = positive ? (operator === '|' ? R.or : R.xor)(left.range, right.range) : R.INT32;
  return signed32(lowering, lowering.binary(operator === '|' ? 'or' : 'xor', low32(lowering, left), low32(lowering, right), 32), range);
}

/** JavaScript takes shift counts modulo 32, and so does eBPF for 32-bit operations. */
function count(lowering: Lowering, right: NumberOperand) {
  return R.isConstant(right.range)
    ? lowering.constant(right.range.lo & 31n)
    : lowering.binary('and', low32(lowering, right), lowering.constant(31), 32);
}

const shiftOf = (right: NumberOperand): bigint | undefined => (R.isConstant(right.range) ? right.range.lo & 31n : undefined);

function shiftLeft(lowering: Lowering, left: NumberOperand, right: NumberOperand): NumberOperand {
  const by = shiftOf(right);
  const wide = by === undefined ? undefined : R.range(left.range.lo << by, left.range.hi << by);
  return signed32(
    lowering,
    lowering.binary('lsh', low32(lowering, left), count(lowering, right), 32),
    wide && R.within(wide, R.INT32) ? wide : R.INT32,
  );
}

function shiftRight(lowering: Lowering, left: NumberOperand, right: NumberOperand): NumberOperand {
  const by = shiftOf(right);
  const from = toInt32(left);
  const range = by === undefined ? R.union(from, R.range(from.lo >> 31n, from.hi >> 31n)) : R.range(from.lo >> by, from.hi >> by);
  return signed32(lowering, lowering.binary('arsh', low32(lowering, left), count(lowering, right), 32), range);
}

function shiftRightUnsigned(lowering: Lowering, left: NumberOperand, right: NumberOperand): NumberOperand {
  const by = shiftOf(right);
  if (by === 0n) return unsigned32(lowering, left);
  const from = R.within(left.range, R.UINT32) ? left.range : R.UINT32;
  const range = by === undefined ? R.range(0n, from.hi) : R.range(from.lo >> by, from.hi >> by);
  return known(lowering, lowering.binary('rsh', low32(lowering, left), count(lowering, right), 32), range);
}

/** `Math.imul(a, b)`. */
export function imul(lowering: Lowering, left: NumberOperand, right: NumberOperand): NumberOperand {
  if (R.isConstant(left.range) && R.isConstant(right.range))
    return lowering.number(Math.imul(Number(left.range.lo), Number(right.range.lo)));
  return signed32(lowering, lowering.binary('mul', low32(lowering, left), low32(lowering, right), 32), R.INT32);
}

export function bitwiseNot(lowering: Lowering, operand: NumberOperand): NumberOperand {
  const from = toInt32(operand);
  return signed32(
    lowering,
    lowering.binary('xor', low32(lowering, operand), lowering.constant(-1), 32),
    R.range(-from.hi - 1n, -from.lo - 1n),
  );
}

// --- bigints -------------------------------------------------------------------------------------

const WRAPPED = 'it may have wrapped at 64 bits, where JavaScript goes on';
export const WRAPPED_HINT = 'write BigInt.asUintN(64, x)';

function bigints(
  lowering: Lowering,
  node: SyntaxNode,
  operator: ArithmeticOperator,
  left: BigintOperand,
  right: BigintOperand,
): BigintOperand {
  const make = (op: BinaryOp, range: R.Range): BigintOperand => bigint(lowering, lowering.binary(op, left.value, right.value), range);
  const positive = left.range.lo >= 0n && right.range.lo >= 0n;
  switch (operator) {
    case '+':
      return make('add', R.add(left.range, right.range));
    case '-':
      return make('sub', R.subtract(left.range, right.range));
    case '*':
      return make('mul', R.multiply(left.range, right.range));
    case '&':
      return make('and', (left.range.lo < 0n && right.range.lo < 0n ? R.bitwise : R.and)(left.range, right.range));
    case '|':
      return make('or', (positive ? R.or : R.bitwise)(left.range, right.range));
    case '^':
      return make('xor', (positive ? R.xor : R.bitwise)(left.range, right.range));
    case '<<': {
      const by = shiftCount(lowering, node, right);
      const ends = [left.range.lo << by.lo, left.range.lo << by.hi, left.range.hi << by.lo, left.range.hi << by.hi];
      return make('lsh', R.range(ends.reduce(R.min), ends.reduce(R.max)));
    }
    case '>>': {
      const kind = exactOrFail(lowering, node, left);
      const by = shiftCount(lowering, node, right);
      const ends = [left.range.lo >> by.lo, left.range.lo >> by.hi, left.range.hi >> by.lo, left.range.hi >> by.hi];
      return make(kind === 'unsigned' ? 'rsh' : 'arsh', R.range(ends.reduce(R.min), ends.reduce(R.max)));
    }
    case '/':
    case '%':
      exactOrFail(lowering, node, left);
      exactOrFail(lowering, node, right);
      divisor(lowering, node, right);
      if (left.range.lo < 0n) lowering.fail(node, 'range', 'a value that may be negative is divided', WRAPPED_HINT);
      return operator === '/' ? make('div', R.divide(left.range, right.range)) : make('mod', R.remainder(left.range, right.range));
    case '>>>':
      return lowering.fail(node, 'type', 'bigints have no >>>', 'use >>');
  }
}

/** `~x`, which is -x - 1. */
export function bigintNot(lowering: Lowering, operand: BigintOperand): BigintOperand {
  const { lo, hi } = operand.range;
  return bigint(lowering, lowering.binary('xor', operand.value, lowering.constant(-1)), R.range(-hi - 1n, -lo - 1n));
}

/** Refuses a bigint that 64 bits may no longer hold. */
export function exactOrFail(lowering: Lowering, node: SyntaxNode, operand: BigintOperand): 'unsigned' | 'signed' {
  return exactness(operand) ?? lowering.fail(node, 'range', WRAPPED, WRAPPED_HINT);
}

function shiftCount(lowering: Lowering, node: SyntaxNode, right: BigintOperand): R.Range {
  if (right.range.lo < 0n || right.range.hi > 63n)
    lowering.fail(node, 'range', `the shift count ${R.mayBe(right.range)}, expected 0..63`, 'mask it: & 63n');
  return right.range;
}
