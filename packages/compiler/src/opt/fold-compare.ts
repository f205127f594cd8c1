/** Folding rules for branches: decided comparisons, needless extensions and swaps, masks that become `set`. */
import type { Branch, CompareOp, Value } from '../ir.ts';
import { evaluateCompare, MIRRORED, signed64, swapBytes, unaryBits } from './evaluate.ts';
import { constant, constantOf, type FoldContext, isExtension, lowBitsOf } from './fold-operand.ts';
import type { Known, KnownValues } from './known.ts';
import { sameValue } from './simplify-cfg.ts';

/** The fields of a branch that change. */
export type FoldedBranch = Partial<Pick<Branch, 'op' | 'width' | 'left' | 'right' | 'then' | 'else' | 'likely'>>;

/** What a branch becomes, or undefined where it stays. */
export function foldCompare(t: Branch, context: FoldContext): FoldedBranch | undefined {
  if (t.then === t.else) return undefined;
  if (t.left.kind === 'const' && t.right.kind !== 'const') return { op: MIRRORED[t.op], left: t.right, right: t.left };
  const outcome = decideCompare(t, context.verifiers);
  if (outcome !== undefined) {
    const isAlready = t.left.kind === 'const' && t.right.kind === 'const';
    return isAlready ? undefined : always(outcome, context);
  }
  const right = constantOf(t.right);
  return narrow(t, context) ?? (right === undefined ? swappedSides(t, context) : againstConstant(t, right, context));
}

function always(outcome: boolean, context: FoldContext): FoldedBranch {
  return { op: 'eq', width: 64, left: constant(context.graph, outcome ? 0n : 1n), right: constant(context.graph, 0n) };
}

/** Whether a comparison holds by what is known of its sides alone; undefined where it may go either way. */
export function decideCompare(t: Pick<Branch, 'op' | 'width' | 'left' | 'right'>, known: KnownValues): boolean | undefined {
  if (sameValue(t.left, t.right) && t.op !== 'set') return evaluateCompare(t.op, 64, 0n, 0n);
  const isWide = t.width === 64;
  const inRange = (value: Value): Known | undefined => (isWide || known.fitsUnsigned(value, 31) ? known.of(value) : undefined);
  const left = inRange(t.left);
  const right = inRange(t.right);
  if (!left || !right) return undefined;
  return decideRanges(t.op, left, right);
}

/** Whether `left op right` holds for all values in their ranges, or for none. */
export function decideRanges(op: CompareOp, left: Known, right: Known): boolean | undefined {
  switch (op) {
    case 'eq':
    case 'ne': {
      const apart = left.max < right.min || right.max < left.min || left.smax < right.smin || right.smax < left.smin;
      const foreign = left.min === left.max ? (left.min & ~right.bits) !== 0n : right.min === right.max && (right.min & ~left.bits) !== 0n;
      if (apart || foreign) return op === 'ne';
      return left.min === left.max && right.min === right.max ? op === 'eq' : undefined;
    }
    case 'gt':
      return left.min > right.max ? true : left.max <= right.min ? false : undefined;
    case 'ge':
      return left.min >= right.max ? true : left.max < right.min ? false : undefined;
    case 'sgt':
      return left.smin > right.smax ? true : left.smax <= right.smin ? false : undefined;
    case 'sge':
      return left.smin >= right.smax ? true : left.smax < right.smin ? false : undefined;
    case 'lt':
    case 'le':
    case 'slt':
    case 'sle':
      return decideRanges(MIRRORED[op], right, left);
    case 'set':
      return (left.bits & right.bits) === 0n ? false : undefined;
  }
}

const UNSIGNED: Readonly<Record<CompareOp, CompareOp>> = {
  eq: 'eq',
  ne: 'ne',
  gt: 'gt',
  ge: 'ge',
  lt: 'lt',
  le: 'le',
  set: 'set',
  sgt: 'gt',
  sge: 'ge',
  slt: 'lt',
  sle: 'le',
};
const SIGNED_ORDER: ReadonlySet<CompareOp> = new Set(['sgt', 'sge', 'slt', 'sle']);

/** A 64-bit comparison of extended values is one of the 32 bits below, where the extension serves nothing else. */
function narrow(t: Branch, context: FoldContext): FoldedBranch | undefined {
  const { known } = context;
  const stripped = (value: Value): Value => {
    if (value.kind !== 'unary' || !isExtension(value.op) || unaryBits(value.op) !== 32) return value;
    return context.isUsedOnce(value) ? lowBitsOf(value, 32) : value;
  };
  if (t.width === 32) {
    const left = stripped(t.left);
    const right = stripped(t.right);
    return left === t.left && right === t.right ? undefined : { left, right };
  }
  const gains = stripped(t.left) !== t.left || stripped(t.right) !== t.right;
  const isWideConstant = t.right.kind === 'const' && t.right.value !== BigInt.asIntN(32, t.right.value);
  if (!gains && !isWideConstant) return undefined;
  const sides = { left: stripped(t.left), right: stripped(t.right), width: 32 } as const;
  if (known.fitsUnsigned(t.left, 32) && known.fitsUnsigned(t.right, 32)) return { ...sides, op: UNSIGNED[t.op] };
  if (t.op === 'set') return undefined;
  if (known.fitsSigned(t.left, 32) && known.fitsSigned(t.right, 32)) return sides;
  return undefined;
}

/** Equal swaps on both sides cancel under equality. */
function swappedSides(t: Branch, context: FoldContext): FoldedBranch | undefined {
  const { left, right } = t;
  if (t.op !== 'eq' && t.op !== 'ne') return undefined;
  if (left.kind !== 'unary' || right.kind !== 'unary' || left.op !== right.op || !left.op.startsWith('swap')) return undefined;
  const bits = unaryBits(left.op);
  if (t.width < bits) return undefined;
  const fits = context.known.fitsUnsigned(left.operand, bits) && context.known.fitsUnsigned(right.operand, bits);
  if (!fits && bits === 16) return undefined;
  return { left: left.operand, right: right.operand, width: fits ? t.width : bits === 32 ? 32 : 64 };
}

function againstConstant(t: Branch, c: bigint, context: FoldContext): FoldedBranch | undefined {
  return compareSwap(t, c, context) ?? compareArithmetic(t, c, context) ?? compareEdge(t, c, context);
}

/** A swapped value against a constant: swap the constant instead. */
function compareSwap(t: Branch, c: bigint, context: FoldContext): FoldedBranch | undefined {
  const { left } = t;
  if (left.kind !== 'unary' || !left.op.startsWith('swap')) return undefined;
  const bits = unaryBits(left.op);
  if (t.width < bits) return undefined;
  const mask = (1n << BigInt(bits)) - 1n;
  const compared = BigInt.asUintN(t.width, c);
  const swapped = swapBytes(compared & mask, bits);
  // 32-bit comparisons have immediates for all 32-bit constants, and look at no bit above.
  const side = { left: left.operand, width: bits === 32 ? 32 : t.width } as const;
  const right = constant(context.graph, bits === 32 ? BigInt.asIntN(32, swapped) : swapped);
  if (t.op === 'set') return { ...side, right };
  if ((t.op !== 'eq' && t.op !== 'ne') || compared > mask) return undefined;
  return bits > 16 || context.known.fitsUnsigned(left.operand, bits) ? { ...side, right } : undefined;
}

/** Equality with a constant moves through additions; a masked value against zero is `set`. */
function compareArithmetic(t: Branch, c: bigint, context: FoldContext): FoldedBranch | undefined {
  const { left } = t;
  if ((t.op !== 'eq' && t.op !== 'ne') || left.kind !== 'binary' || left.pointer !== undefined) return undefined;
  const second = constantOf(left.right);
  if (second === undefined) return undefined;
  if (left.op === 'and' && c === 0n && context.isUsedOnce(left) && (t.width === 64 || left.width === 32)) {
    const tested = {
      left: left.left,
      right: constant(context.graph, BigInt.asUintN(left.width, second)),
      op: 'set',
      width: left.width,
    } as const;
    if (t.op === 'ne') return tested;
    const likely = t.likely && (t.likely === 'then' ? 'else' : 'then');
    return { ...tested, then: t.else, else: t.then, ...(likely ? { likely } : {}) };
  }
  if (left.width !== t.width || !context.isUsedOnce(left)) return undefined;
  const moved = (value: bigint): FoldedBranch => ({
    left: left.left,
    right: constant(context.graph, t.width === 32 ? BigInt.asIntN(32, value) : signed64(value)),
  });
  if (left.op === 'add') return moved(c - second);
  if (left.op === 'xor') return moved(c ^ second);
  return undefined;
}

/** Comparisons that only one value passes are equalities. */
function compareEdge(t: Branch, c: bigint, context: FoldContext): FoldedBranch | undefined {
  const u = BigInt.asUintN(t.width, c);
  if ((t.op === 'lt' && u === 1n) || (t.op === 'le' && u === 0n)) return { op: 'eq', right: constant(context.graph, 0n) };
  if ((t.op === 'ge' && u === 1n) || (t.op === 'gt' && u === 0n)) return { op: 'ne', right: constant(context.graph, 0n) };
  if (SIGNED_ORDER.has(t.op) && t.width === 64 && c >= 0n && context.known.of(t.left).smin >= 0n) return { op: UNSIGNED[t.op] };
  return undefined;
}
