/** Bounds of arithmetic on numbers, 64 and 32 bits wide: never too small, as a proof rests on them. */
import { AluCode, InstructionClass, OpcodeMask } from '@tailrace/bpf';
import { type AbstractValue, ANY, constant, UINT32, upTo } from './abstract-value.ts';
import type { Operation } from './code.ts';

/** What an instruction of the classes alu and alu64 leaves, where its operands are looked at as numbers. */
export function numberResult(operation: Operation, left: AbstractValue, right: AbstractValue): AbstractValue {
  const is64 = (operation.opcode & OpcodeMask.class) === InstructionClass.alu64;
  if (is64) return boundsOf(operation, left, right, 64);
  // a byte swap takes 64 bits of its operand in both classes
  const isSwap = (operation.opcode & OpcodeMask.code) === AluCode.end;
  const result = isSwap ? boundsOf(operation, left, right, 64) : boundsOf(operation, narrowed(left), narrowed(right), 32);
  return isSwap ? result : narrowed(result);
}

function boundsOf(operation: Operation, a: AbstractValue, b: AbstractValue, bits: 32 | 64): AbstractValue {
  const code = operation.opcode & OpcodeMask.code;
  if (code === AluCode.end) return operation.imm === 64 ? ANY : upTo(2 ** operation.imm - 1);
  if (code === AluCode.neg) return ANY;
  if (code === AluCode.mov) return operation.offset === 0 ? b : ANY;
  // of a pointer only what a mask leaves is known
  if (a.kind !== 'number' || b.kind !== 'number') return code === AluCode.and ? upTo(Math.min(maxOf(a), maxOf(b))) : ANY;
  if (a.constant !== undefined && b.constant !== undefined) {
    const folded = fold(code, a.constant, b.constant, bits);
    if (folded !== undefined) return constant(BigInt.asUintN(bits, folded));
  }
  const shift = b.constant === undefined ? undefined : Number(b.constant & BigInt(bits - 1));
  switch (code) {
    case AluCode.add:
      return upTo(a.max + b.max);
    case AluCode.mul:
      return upTo(a.max * b.max);
    case AluCode.and:
      return upTo(Math.min(a.max, b.max));
    case AluCode.or:
    case AluCode.xor:
      return upTo(allOnes(Math.max(a.max, b.max)));
    case AluCode.lsh:
      return shift === undefined ? ANY : upTo(a.max * 2 ** shift);
    case AluCode.rsh:
      if (shift === undefined) return upTo(a.max);
      return upTo(a.max === Number.POSITIVE_INFINITY ? 2 ** (64 - shift) - 1 : Math.floor(a.max / 2 ** shift));
    case AluCode.div:
      return operation.offset === 0 ? upTo(a.max) : ANY;
    case AluCode.mod:
      if (operation.offset !== 0) return ANY;
      // by zero the dividend stays
      return upTo(b.constant === undefined || b.constant === 0n ? a.max : Math.min(a.max, b.max - 1));
    default:
      return ANY;
  }
}

function fold(code: number, a: bigint, b: bigint, bits: number): bigint | undefined {
  switch (code) {
    case AluCode.add:
      return a + b;
    case AluCode.sub:
      return a - b;
    case AluCode.and:
      return a & b;
    case AluCode.or:
      return a | b;
    case AluCode.lsh:
      return a << (b & BigInt(bits - 1));
    default:
      return undefined;
  }
}

/** What 32-bit arithmetic leaves of a value. */
function narrowed(value: AbstractValue): AbstractValue {
  if (value.kind !== 'number') return upTo(UINT32);
  if (value.constant !== undefined) return constant(BigInt.asUintN(32, value.constant));
  return value.max <= UINT32 ? value : upTo(UINT32);
}

/** The smallest number of ones that is at least `max`. */
function allOnes(max: number): number {
  if (max === Number.POSITIVE_INFINITY) return max;
  let ones = 1;
  while (ones < max) ones = 2 * ones + 1;
  return ones;
}

function maxOf(value: AbstractValue): number {
  return value.kind === 'number' ? value.max : Number.POSITIVE_INFINITY;
}
