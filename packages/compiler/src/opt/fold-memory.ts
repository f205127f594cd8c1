/** Folding rules for addresses and stored values. */
import type { AtomicAdd, Binary, Graph, Load, Store, Value } from '../ir.ts';
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
 * Masks and shifts of loads that nothing else reads: narrower loads (little endian). Context fields have fixed widths. The
 * other rules then find the mask or the shift needless. `uses` are those of the graph as it stands. Returns true where a load changed.
 */
export function narrowLoads(graph: Graph, uses: ReadonlyMap<Value, number>): boolean {
  let changed = false;
  for (const block of graph.blocks) {
    for (const node of block.nodes) {
      if (node.kind !== 'binary' || node.left.kind !== 'load' || uses.get(node.left) !== 1) continue;
      if (narrowed(graph, node, node.left)) changed = true;
    }
  }
  return changed;
}

function narrowed(graph: Graph, node: Binary, load: Load): boolean {
  const c = constantOf(node.right);
  if (c === undefined || load.space === 'context' || load.space === 'skb' || load.pointer !== undefined) return false;
  if (node.op === 'and' && (c === 0xffn || c === 0xffffn)) {
    const size = c === 0xffn ? 1 : 2;
    if (load.size <= size) return false;
    load.size = size;
    return true;
  }
  // Of a wider load, a 32-bit shift sees the lower half alone; amounts from the width up are cut.
  if (node.op !== 'rsh' || c % 8n !== 0n || c <= 0n || c >= BigInt(node.width) || load.size * 8 > node.width) return false;
  const size = load.size - Number(c) / 8;
  const offset = load.offset + Number(c) / 8;
  if ((size !== 1 && size !== 2 && size !== 4) || (load.space === 'stack' && offset % size !== 0)) return false;
  load.size = size;
  load.offset = offset;
  node.right = constant(graph, 0n);
  return true;
}
