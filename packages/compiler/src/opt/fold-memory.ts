/** Folding rules for addresses and stored values. */
import type { AtomicAdd, Binary, Load, Store, Value } from '../ir.ts';
import { constant, constantOf, type FoldContext, lowBitsOf } from './fold-operand.ts';

/** Moves constants from the address into the offset. Returns true where it did. */
export function foldMemory(node: Load | Store | AtomicAdd): boolean {
  const { base } = node;
  if (base.kind !== 'binary' || base.op !== 'add' || base.width !== 64 || base.pointer !== node.space) return false;
  const step = constantOf(base.right);
  if (step === undefined) return false;
  const offset = BigInt(node.offset) + step;
  if (offset !== BigInt.asIntN(16, offset)) return false;
  node.base = base.left;
  node.offset = Number(offset);
  return true;
}

/** The value to store: only its low bytes count. */
export function storedValue(node: Store, context: FoldContext): Value {
  const bits = node.size * 8;
  const value = lowBitsOf(node.value, bits);
  const known = constantOf(value);
  if (known !== undefined) {
    const narrow = BigInt.asIntN(bits, known);
    return narrow === known ? value : constant(context.graph, narrow);
  }
  return value;
}

/**
 * A mask or a shift of a load that only it reads: a narrower load (little endian). Context fields have fixed widths.
 * Returns true where the load changed; the caller's rules then find the mask needless.
 */
export function narrowLoad(node: Binary, context: FoldContext): boolean {
  const load = node.left;
  const c = constantOf(node.right);
  if (load.kind !== 'load' || c === undefined || load.space === 'context' || load.pointer !== undefined) return false;
  if (!context.isUsedOnce(load)) return false;
  if (node.op === 'and' && (c === 0xffn || c === 0xffffn)) {
    const size = c === 0xffn ? 1 : 2;
    if (load.size <= size) return false;
    load.size = size;
    return true;
  }
  return false;
}

/** `load >> k` that reads only the load's upper half or quarter: a load from there. */
export function shiftedLoad(node: Binary, context: FoldContext): Load | undefined {
  const load = node.left;
  const c = constantOf(node.right);
  if (load.kind !== 'load' || c === undefined || load.space === 'context' || load.pointer !== undefined) return undefined;
  if (!context.isUsedOnce(load) || node.op !== 'rsh' || c % 8n !== 0n || c === 0n) return undefined;
  const size = load.size - Number(c) / 8;
  const offset = load.offset + Number(c) / 8;
  if ((size !== 1 && size !== 2 && size !== 4) || (load.space === 'stack' && offset % size !== 0)) return undefined;
  load.size = size;
  load.offset = offset;
  return load;
}
