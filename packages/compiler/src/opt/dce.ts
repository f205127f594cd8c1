/** Removes what nothing needs: values without readers, pure calls among them, and stores to stack that no one reads. */
import { type Graph, type Node, operands, type StackSlot, terminatorOperands, type Value } from '../ir.ts';

/** Marks from effects and terminators, sweeps the rest. Returns true where something went. */
export function eliminateDeadCode(graph: Graph): boolean {
  const read = readSlots(graph);
  const live = new Set<Node>();
  const pending: Value[] = [];
  const mark = (value: Value): void => {
    if (live.has(value)) return;
    live.add(value);
    pending.push(value);
  };
  for (const block of graph.blocks) {
    for (const node of block.nodes)
      if (hasEffect(node, read)) {
        live.add(node);
        operands(node).forEach(mark);
      }
    terminatorOperands(block.terminator).forEach(mark);
  }
  for (let value = pending.pop(); value; value = pending.pop()) operands(value).forEach(mark);
  let changed = false;
  for (const block of graph.blocks) {
    const isKept = (node: Node): boolean => live.has(node) || node.kind === 'context';
    const kept = block.nodes.filter(isKept);
    if (kept.length === block.nodes.length) continue;
    for (const node of block.nodes) if (!isKept(node)) node.block = undefined;
    block.nodes = kept;
    changed = true;
  }
  return changed;
}

/** Slots that some load, call or arithmetic on their address may read. */
function readSlots(graph: Graph): Set<StackSlot> {
  const read = new Set<StackSlot>();
  for (const block of graph.blocks)
    for (const node of block.nodes) {
      if (node.kind === 'call') for (const slot of [...node.readsStack, ...node.writesStack]) read.add(slot);
      for (const value of operands(node)) {
        const isStoreTarget = (node.kind === 'store' || node.kind === 'atomicAdd') && value === node.base && value !== node.value;
        if (value.kind === 'stackAddress' && !isStoreTarget) read.add(value.slot);
      }
    }
  return read;
}

function hasEffect(node: Node, read: ReadonlySet<StackSlot>): boolean {
  switch (node.kind) {
    case 'store':
    case 'atomicAdd':
      return node.base.kind !== 'stackAddress' || read.has(node.base.slot);
    case 'call':
      return !node.pure;
    default:
      return false;
  }
}
