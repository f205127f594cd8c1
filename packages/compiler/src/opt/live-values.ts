/** Which values are still needed at the end of each block of a graph. */
import { type Block, type Graph, operands, reversePostOrder, successors, terminatorOperands, type Value } from '../ir.ts';
import { isFloating } from './float.ts';

/** Values live at the end of each reachable block; phi inputs count at the end of the predecessor. */
export function liveValues(graph: Graph): Map<Block, ReadonlySet<Value>> {
  const order = reversePostOrder(graph).reverse();
  const starts = new Map<Block, Set<Value>>(order.map((block) => [block, new Set()]));
  const ends = new Map<Block, Set<Value>>();
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of order) {
      const end = endOf(block, starts);
      ends.set(block, end);
      const live = new Set(end);
      for (const value of terminatorOperands(block.terminator)) live.add(value);
      for (let i = block.nodes.length - 1; i >= 0; i--) {
        const node = block.nodes[i];
        if (!node) continue;
        live.delete(node as Value);
        if (node.kind !== 'phi') for (const value of operands(node)) if (!isFloating(value)) live.add(value);
      }
      if (live.size !== starts.get(block)?.size) changed = true;
      starts.set(block, live);
    }
  }
  return ends;
}

function endOf(block: Block, starts: ReadonlyMap<Block, ReadonlySet<Value>>): Set<Value> {
  const live = new Set<Value>();
  for (const s of successors(block)) {
    for (const value of starts.get(s) ?? []) live.add(value);
    const at = s.predecessors.indexOf(block);
    for (const node of s.nodes) {
      const input = node.kind === 'phi' ? node.inputs[at] : undefined;
      if (input && !isFloating(input)) live.add(input);
    }
  }
  return live;
}
