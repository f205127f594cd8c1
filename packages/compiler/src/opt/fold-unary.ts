/** Folding rules for extensions, byte swaps and negation. */
import { type Binary, createNode, type Unary, type UnaryOp, type Value } from '../ir.ts';
import { evaluateUnary, swapBytes, unaryBits } from './evaluate.ts';
import { constant, constantOf, type FoldContext, lowBitsOf } from './fold-operand.ts';

/** What stands for the node, or undefined where it stays (its operand may have been simplified). */
export function foldUnary(node: Unary, context: FoldContext): Value | undefined {
  const value = constantOf(node.operand);
  if (value !== undefined) return constant(context.graph, evaluateUnary(node.op, value));
  const bits = unaryBits(node.op);
  if (node.op !== 'neg') node.operand = lowBitsOf(node.operand, bits);
  switch (node.op) {
    case 'zext8':
    case 'zext16':
      // One form for masks lets the rules of `and` serve all.
      return context.verifiers.fitsUnsigned(node.operand, bits)
        ? node.operand
        : context.make(
            createNode(context.graph, {
              kind: 'binary',
              op: 'and',
              width: 32,
              left: node.operand,
              right: constant(context.graph, (1n << BigInt(bits)) - 1n),
              place: node.place,
            }),
          );
    case 'zext32':
      return context.here.fitsUnsigned(node.operand, 32) ? node.operand : narrowed(node.operand, context);
    case 'sext8':
    case 'sext16':
    case 'sext32':
      return context.here.fitsSigned(node.operand, bits) ? node.operand : undefined;
    case 'swap16':
    case 'swap32':
    case 'swap64':
      return foldSwap(node, bits, context);
    case 'neg':
      return node.operand.kind === 'unary' && node.operand.op === 'neg' ? node.operand.operand : undefined;
  }
}

const NARROWABLE: ReadonlySet<string> = new Set(['add', 'sub', 'mul', 'and', 'or', 'xor']);

/** zext32 of 64-bit arithmetic whose low half depends on the operands' low halves: the same in 32 bits. */
function narrowed(operand: Value, context: FoldContext): Value | undefined {
  if (operand.kind !== 'binary' || operand.width !== 64 || operand.pointer !== undefined || !context.isUsedOnce(operand)) return undefined;
  const shift = operand.op === 'lsh' ? constantOf(operand.right) : undefined;
  if (!NARROWABLE.has(operand.op) && !(shift !== undefined && (shift & 63n) < 32n)) return undefined;
  const { op, left, right } = operand;
  return context.make(createNode(context.graph, { kind: 'binary', op, width: 32, left, right, place: operand.place }));
}

/** A swap of a swap is what was there first; a swap moves through bitwise operations to meet another. */
function foldSwap(node: Unary, bits: number, context: FoldContext): Value | undefined {
  const { operand } = node;
  const mask = (1n << BigInt(bits)) - 1n;
  if (operand.kind === 'unary' && operand.op === node.op) {
    if (context.known.fitsUnsigned(operand.operand, bits)) return operand.operand;
    const op: UnaryOp | undefined = bits === 32 ? 'zext32' : bits === 16 ? 'zext16' : undefined;
    if (op) return context.make(createNode(context.graph, { kind: 'unary', op, operand: operand.operand, place: node.place }));
  }
  if (operand.kind === 'binary' && operand.width >= bits && isBitwise(operand) && context.isUsedOnce(operand)) {
    const right = constantOf(operand.right);
    const left = operand.left;
    if (right === undefined || left.kind !== 'unary' || left.op !== node.op) return undefined;
    const inner = context.make(createNode(context.graph, { kind: 'unary', op: node.op, operand: left, place: node.place }));
    return context.make(
      createNode(context.graph, {
        kind: 'binary',
        op: operand.op,
        width: 64,
        left: inner,
        right: constant(context.graph, swapBytes(right & mask, bits)),
        place: operand.place,
      }),
    );
  }
  return undefined;
}

function isBitwise(node: Binary): boolean {
  return node.op === 'and' || node.op === 'or' || node.op === 'xor';
}
