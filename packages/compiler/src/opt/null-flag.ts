/**
 * The verifier lets no packet pointer be compared with 0. Where threading left such a test of a phi of pointers and
 * nulls, a phi of ones and zeros beside it is tested instead: on each path the verifier knows which it is. Behind the
 * test, the pointer itself stands for the phi if it is the only one.
 */
import { append, type Block, createNode, type Graph, mapOperands, type Phi, type Value } from '../ir.ts';
import { type Dominance, dominance } from './dominance.ts';
import { constant } from './fold-operand.ts';

/** Rewrites every null test of a packet pointer. Returns true where there was one. */
export function flagNullTests(graph: Graph): boolean {
  const flags = new Map<Value, Value>();
  const tree = dominance(graph);
  let changed = false;
  for (const block of graph.blocks) {
    const t = block.terminator;
    if (t?.kind !== 'branch' || (t.op !== 'eq' && t.op !== 'ne') || t.then === t.else) continue;
    if (t.left.kind !== 'phi' || t.left.pointer !== 'packet' || t.right.kind !== 'const' || t.right.value !== 0n) continue;
    useOnlyPointer(t.left, t.op === 'eq' ? t.else : t.then, tree);
    block.terminator = { ...t, left: flagOf(graph, t.left, flags), width: 64 };
    changed = true;
  }
  return changed;
}

/** 1 where a packet pointer is one, 0 where it is null. */
function flagOf(graph: Graph, value: Value, flags: Map<Value, Value>): Value {
  const known = flags.get(value);
  if (known) return known;
  if (value.kind !== 'phi' || value.pointer !== 'packet') return constant(graph, value.kind === 'const' && value.value === 0n ? 0n : 1n);
  const flag: Phi = createNode(graph, { kind: 'phi', inputs: [], place: value.place });
  flags.set(value, flag);
  append(value.block as Block, flag);
  flag.inputs = value.inputs.map((input) => flagOf(graph, input, flags));
  return flag;
}

/** In blocks that are reached only where `phi` is no null, what it must be then is used instead. */
function useOnlyPointer(phi: Phi, notNull: Block, tree: Dominance): void {
  const pointers = new Set<Value>();
  collectPointers(phi, pointers, new Set());
  const [pointer, ...others] = pointers;
  if (!pointer?.block || !phi.block || others.length > 0 || notNull.predecessors.length > 1) return;
  if (!tree.dominates(pointer.block, phi.block)) return;
  for (const block of tree.order)
    if (tree.dominates(notNull, block))
      for (const node of block.nodes) if (node.kind !== 'phi') mapOperands(node, (value) => (value === phi ? pointer : value));
}

/** The values that a phi may be, but for null and phis. */
function collectPointers(value: Value, into: Set<Value>, seen: Set<Value>): void {
  if (seen.has(value)) return;
  seen.add(value);
  if (value.kind === 'phi') for (const input of value.inputs) collectPointers(input, into, seen);
  else if (value.kind !== 'const' || value.value !== 0n) into.add(value);
}
