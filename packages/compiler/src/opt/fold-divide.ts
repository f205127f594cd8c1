/**
 * Unsigned division by a constant as a multiplication and a shift, where 64 bits hold the product (Warren, "Hacker's
 * Delight", chapter 10): x / c = (x * m) >> p with m = 2^p / c + 1, exact for all x up to its known maximum.
 */
import { type Binary, createNode, type Value } from '../ir.ts';
import { constant, type FoldContext } from './fold-operand.ts';

/** `x / c` for c > 1 that is no power of two; undefined where the product may leave 64 bits. */
export function divideByConstant(node: Binary, c: bigint, context: FoldContext): Value | undefined {
  const x = widened(node, context);
  const magic = x && findMagic(context.known.of(x).max, c);
  if (!x || !magic) return undefined;
  const product = binary(node, 'mul', x, magic.multiplier, context);
  return binary(node, 'rsh', product, magic.shift, context);
}

/** `x % c` as `x - (x / c) * c`. */
export function moduloByConstant(node: Binary, c: bigint, context: FoldContext): Value | undefined {
  const x = widened(node, context);
  const quotient = x && divideByConstant(node, c, context);
  if (!x || !quotient) return undefined;
  const multiple = binary(node, 'mul', quotient, c, context);
  return context.make(createNode(context.graph, { kind: 'binary', op: 'sub', width: 64, left: x, right: multiple, place: node.place }));
}

/** The dividend as 64 bits below 2^32. */
function widened(node: Binary, context: FoldContext): Value | undefined {
  if (context.known.fitsUnsigned(node.left, 32)) return node.left;
  if (node.width === 64) return context.known.of(node.left).max < 1n << 63n ? node.left : undefined;
  return context.make(createNode(context.graph, { kind: 'unary', op: 'zext32', operand: node.left, place: node.place }));
}

interface Magic {
  readonly multiplier: bigint;
  readonly shift: bigint;
}

function findMagic(max: bigint, c: bigint): Magic | undefined {
  for (let shift = 1n; shift < 64n; shift++) {
    const multiplier = (1n << shift) / c + 1n;
    if ((max * multiplier) >> 64n !== 0n) return undefined;
    const excess = multiplier * c - (1n << shift);
    if (excess * max < 1n << shift) return { multiplier, shift };
  }
  return undefined;
}

function binary(node: Binary, op: 'mul' | 'rsh', left: Value, right: bigint, context: FoldContext): Value {
  return context.make(
    createNode(context.graph, { kind: 'binary', op, width: 64, left, right: constant(context.graph, right), place: node.place }),
  );
}
