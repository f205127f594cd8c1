/** Folding rules for arithmetic. */
import { type Binary, type BinaryOp, createNode, type Value } from '../ir.ts';
import { evaluateBinary, unaryBits } from './evaluate.ts';
import { divideByConstant, moduloByConstant } from './fold-divide.ts';
import { constant, constantOf, type FoldContext, lowBitsOf, powerOfTwo } from './fold-operand.ts';
import { sameValue } from './simplify-cfg.ts';

const COMMUTATIVE: ReadonlySet<BinaryOp> = new Set(['add', 'mul', 'and', 'or', 'xor']);

/** What stands for the node, or undefined where it stays (its operands may have been simplified). */
export function foldBinary(node: Binary, context: FoldContext): Value | undefined {
  if (node.pointer === undefined && COMMUTATIVE.has(node.op) && node.left.kind === 'const' && node.right.kind !== 'const')
    [node.left, node.right] = [node.right, node.left];
  if (node.width === 32) {
    node.left = lowBitsOf(node.left, 32);
    node.right = lowBitsOf(node.right, 32);
  }
  const left = constantOf(node.left);
  const right = constantOf(node.right);
  if (left !== undefined && right !== undefined) return constant(context.graph, evaluateBinary(node.op, node.width, left, right));
  const facts = context.known.of(node);
  if (facts.min === facts.max && node.pointer === undefined) return constant(context.graph, facts.min);
  if (node.pointer === undefined && sameValue(node.left, node.right)) {
    if (node.op === 'sub' || node.op === 'xor') return constant(context.graph, 0n);
    if (node.op === 'and' || node.op === 'or') return low(node.left, node, context);
  }
  if (right === undefined) return foldVariable(node, context);
  return foldConstantRight(node, BigInt.asUintN(node.width, right), context);
}

/** `value` as a result of `node` must be: zero-extended where that is 32 bits wide. */
function low(value: Value, node: Binary, context: FoldContext): Value {
  if (node.width === 64 || context.known.fitsUnsigned(value, 32)) return value;
  return context.make(createNode(context.graph, { kind: 'unary', op: 'zext32', operand: value, place: node.place }));
}

function foldVariable(node: Binary, context: FoldContext): Value | undefined {
  const { left, right } = node;
  if (node.op === 'xor' && left.kind === 'binary' && left.op === 'xor' && left.width === node.width) {
    if (sameValue(left.right, right)) return low(left.left, node, context);
    if (sameValue(left.left, right)) return low(left.right, node, context);
  }
  if (node.op === 'add' && node.pointer !== undefined && right.kind === 'binary' && right.op === 'add' && right.width === 64) {
    // The constant ends in an offset or in the size of a check.
    const step = constantOf(right.right);
    const moved = step === undefined ? undefined : variant(node, { right: right.left }, context);
    return step === undefined || !moved ? undefined : variant(node, { left: moved, right: step }, context);
  }
  if ((node.op === 'sdiv' || node.op === 'smod') && isNatural(node.left, node, context) && isNatural(node.right, node, context))
    return variant(node, { op: node.op === 'sdiv' ? 'div' : 'mod' }, context);
  return undefined;
}

/** True where the sign bit of the operation's width is clear. */
function isNatural(value: Value, node: Binary, context: FoldContext): boolean {
  return context.known.fitsUnsigned(value, node.width - 1);
}

/** Rules for `x op constant`; `c` is unsigned in the node's width. */
function foldConstantRight(node: Binary, c: bigint, context: FoldContext): Value | undefined {
  const { op, left, width } = node;
  const mask = (1n << BigInt(width)) - 1n;
  switch (op) {
    case 'add':
      if (c === 0n) return low(left, node, context);
      return reassociate(node, c, context);
    case 'sub':
      return c === 0n ? low(left, node, context) : variant(node, { op: 'add', right: -c }, context);
    case 'mul': {
      if (c === 0n) return constant(context.graph, 0n);
      if (c === 1n) return low(left, node, context);
      const shift = powerOfTwo(c, width);
      return shift === undefined ? reassociate(node, c, context) : variant(node, { op: 'lsh', right: shift }, context);
    }
    case 'div': {
      if (c === 0n) return constant(context.graph, 0n);
      if (c === 1n) return low(left, node, context);
      const shift = powerOfTwo(c, width);
      return shift === undefined ? divideByConstant(node, c, context) : variant(node, { op: 'rsh', right: shift }, context);
    }
    case 'mod': {
      if (c === 0n) return low(left, node, context);
      if (c === 1n) return constant(context.graph, 0n);
      return powerOfTwo(c, width) === undefined ? moduloByConstant(node, c, context) : variant(node, { op: 'and', right: c - 1n }, context);
    }
    case 'sdiv':
    case 'smod':
      if (c === 0n) return op === 'sdiv' ? constant(context.graph, 0n) : low(left, node, context);
      if (c === 1n) return op === 'sdiv' ? low(left, node, context) : constant(context.graph, 0n);
      if (c >> BigInt(width - 1) === 0n && isNatural(left, node, context))
        return variant(node, { op: op === 'sdiv' ? 'div' : 'mod' }, context);
      return undefined;
    case 'and':
      return foldAnd(node, c, context);
    case 'or':
      if (c === 0n) return low(left, node, context);
      return c === mask ? constant(context.graph, mask) : reassociate(node, c, context);
    case 'xor':
      return c === 0n ? low(left, node, context) : reassociate(node, c, context);
    case 'lsh':
    case 'rsh':
    case 'arsh':
      return foldShift(node, c & BigInt(width - 1), context);
  }
}

/** `x & c`: nothing where only bits of `c` may be set, one mask for two, a zext32 for the low half. */
function foldAnd(node: Binary, c: bigint, context: FoldContext): Value | undefined {
  const { left, width } = node;
  const possible = context.verifiers.of(left).bits & ((1n << BigInt(width)) - 1n);
  if ((possible & c) === 0n) return constant(context.graph, 0n);
  if ((possible & ~c) === 0n) return low(left, node, context);
  if (width === 64 && (possible & c) === (possible & 0xffff_ffffn))
    return context.make(createNode(context.graph, { kind: 'unary', op: 'zext32', operand: left, place: node.place }));
  // 32-bit masks have immediates for all their values and zero-extend.
  if (width === 64 && c <= 0xffff_ffffn) return variant(node, { width: 32 }, context);
  if (c <= 0xffn && left.kind === 'unary' && left.op.startsWith('swap') && unaryBits(left.op) <= width) {
    const top = variant(node, { op: 'rsh', left: left.operand, right: BigInt(unaryBits(left.op) - 8) }, context);
    return top && variant(node, { left: top }, context);
  }
  const bits = c.toString(2).length;
  if ((c & (c + 1n)) === 0n) {
    const inner = lowBitsOf(left, bits);
    if (inner !== left) return variant(node, { left: inner }, context);
  }
  return reassociate(node, c, context);
}

/** Two shifts become one, or one mask. */
function foldShift(node: Binary, amount: bigint, context: FoldContext): Value | undefined {
  const { op, left, width } = node;
  if (amount === 0n) return low(left, node, context);
  if (op === 'arsh' && isNatural(left, node, context)) return variant(node, { op: 'rsh', right: amount }, context);
  if (op === 'rsh' && left.kind === 'unary' && left.op.startsWith('swap') && amount === BigInt(unaryBits(left.op) - 8))
    return variant(node, { op: 'and', left: left.operand, right: 0xffn }, context);
  if (left.kind !== 'binary' || left.width !== width) return undefined;
  const first = constantOf(left.right);
  if (first === undefined) return undefined;
  const inner = first & BigInt(width - 1);
  const all = (1n << BigInt(width)) - 1n;
  if (left.op === op && op !== 'arsh') {
    const sum = inner + amount;
    return sum >= BigInt(width) ? constant(context.graph, 0n) : variant(node, { left: left.left, right: sum }, context);
  }
  if (op === 'rsh' && left.op === 'lsh' && inner === amount)
    return variant(node, { op: 'and', left: left.left, right: all >> amount }, context, true);
  if (op === 'lsh' && left.op === 'rsh' && inner === amount)
    return variant(node, { op: 'and', left: left.left, right: (all << amount) & all }, context, true);
  return undefined;
}

/** `(x op c1) op c2` is `x op (c1 op c2)`. */
function reassociate(node: Binary, c: bigint, context: FoldContext): Value | undefined {
  const { left, op, width, pointer } = node;
  if (left.kind !== 'binary' || left.op !== op || left.width !== width || left.pointer !== pointer) return undefined;
  const first = constantOf(left.right);
  if (first === undefined) return undefined;
  return variant(node, { left: left.left, right: evaluateBinary(op, width, first, c) }, context);
}

interface Change {
  readonly op?: BinaryOp;
  readonly width?: 32 | 64;
  readonly left?: Value;
  readonly right?: bigint | Value;
}

/** A new node like `node` but for the changes; `onlyImmediate` refuses what would need a register for the constant. */
function variant(node: Binary, change: Change, context: FoldContext, onlyImmediate = false): Value | undefined {
  const width = change.width ?? node.width;
  const { right: wanted } = change;
  const isWide = typeof wanted === 'bigint' && wanted !== BigInt.asIntN(32, wanted) && wanted !== 0xffff_ffffn;
  if (onlyImmediate && width === 64 && isWide) return undefined;
  const right = typeof wanted === 'bigint' ? constant(context.graph, BigInt.asIntN(width, wanted)) : (wanted ?? node.right);
  return context.make(
    createNode(context.graph, {
      kind: 'binary',
      op: change.op ?? node.op,
      width,
      left: change.left ?? node.left,
      right,
      place: node.place,
      ...(node.pointer === undefined ? {} : { pointer: node.pointer }),
    }),
  );
}
