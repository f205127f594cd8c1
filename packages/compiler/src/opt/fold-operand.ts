/** What folding rules share: their surroundings, constants, and what an operation really reads of its operands. */
import { type Const, createNode, type Graph, type Node, type Value } from '../ir.ts';
import { signed64, unaryBits } from './evaluate.ts';
import type { KnownValues } from './known.ts';

/** What a rule may ask, and how it makes what it wants instead. */
export interface FoldContext {
  readonly graph: Graph;
  /** What holds of values everywhere. */
  readonly known: KnownValues;
  /** What holds of them here. */
  readonly here: KnownValues;
  /** What the verifier knows everywhere: by this alone go masks and comparisons that may be there for its sake. */
  readonly verifiers: KnownValues;
  /** True where nothing but the node being folded reads a value. */
  isUsedOnce(value: Value): boolean;
  /** Puts a new node before the one being folded. */
  make<T extends Node>(node: T): T;
}

/** A constant of the signed 64 bits of `value`. */
export function constant(graph: Graph, value: bigint): Const {
  return createNode(graph, { kind: 'const', value: signed64(value) });
}

/** The constant that a value is, signed. */
export function constantOf(value: Value): bigint | undefined {
  return value.kind === 'const' ? value.value : undefined;
}

/** A value with the same low `bits` bits and the fewest operations behind it. */
export function lowBitsOf(value: Value, bits: number): Value {
  const mask = (1n << BigInt(bits)) - 1n;
  let at = value;
  for (;;) {
    if (at.kind === 'unary' && isExtension(at.op) && unaryBits(at.op) >= bits) at = at.operand;
    else if (at.kind === 'binary' && at.op === 'and' && at.right.kind === 'const' && (at.right.value & mask) === mask && at.width >= bits)
      at = at.left;
    else return at;
  }
}

/** sext and zext of any width. */
export function isExtension(op: string): boolean {
  return op.startsWith('sext') || op.startsWith('zext');
}

/** k where `value` is 2 to the k, as unsigned `width` bits. */
export function powerOfTwo(value: bigint, width: number): bigint | undefined {
  const u = BigInt.asUintN(width, value);
  return u !== 0n && (u & (u - 1n)) === 0n ? BigInt(u.toString(2).length - 1) : undefined;
}
