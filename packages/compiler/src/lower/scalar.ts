/** Numbers and bigints as machine values: exact where they must be, sign-extended or masked only where it is needed. */
import type { Value } from '../ir.ts';
import { exactly, INT32, INT64, isConstant, type Range, UINT32, UINT64, within } from '../range.ts';
import type { Emitter } from './emitter.ts';
import type { BigintOperand, NumberOperand } from './operand.ts';

/** The number as signed 64 bits. */
export function exact(emitter: Emitter, number: NumberOperand): Value {
  if (isConstant(number.range) && !number.exact) return emitter.constant(number.range.lo);
  if (number.exact) return number.exact;
  return emitter.unary('sext32', number.low as Value);
}

/** A value whose low 32 bits are those of the number. */
export function low32(emitter: Emitter, number: NumberOperand): Value {
  return number.low ?? exact(emitter, number);
}

/** A number out of a 32-bit operation, whose upper half is zero: `value` holds its low 32 bits. */
export function signed32(emitter: Emitter, value: Value, range: Range): NumberOperand {
  if (isConstant(range)) return emitter.number(range.lo);
  if (range.lo >= 0n && within(range, INT32)) return { kind: 'number', range, exact: value, low: value };
  return { kind: 'number', range: within(range, INT32) ? range : INT32, low: value };
}

/** A number that `value` holds exactly. */
export function known(emitter: Emitter, value: Value, range: Range): NumberOperand {
  return isConstant(range) ? emitter.number(range.lo) : { kind: 'number', range, exact: value };
}

export function bigint(emitter: Emitter, value: Value, range: Range): BigintOperand {
  return isConstant(range)
    ? { kind: 'bigint', range: exactly(range.lo), value: emitter.constant(range.lo) }
    : { kind: 'bigint', range, value };
}

/** How a bigint can be compared, divided or shifted right; undefined where it may have wrapped. */
export function exactness(operand: BigintOperand): 'unsigned' | 'signed' | undefined {
  return within(operand.range, UINT64) ? 'unsigned' : within(operand.range, INT64) ? 'signed' : undefined;
}

/** The number's low 32 bits, zero-extended: `x >>> 0`. */
export function unsigned32(emitter: Emitter, number: NumberOperand): NumberOperand {
  if (within(number.range, UINT32)) return number;
  if (isConstant(number.range)) return emitter.number(BigInt.asUintN(32, number.range.lo));
  return { kind: 'number', range: UINT32, exact: emitter.unary('zext32', low32(emitter, number)) };
}
