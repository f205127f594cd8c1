/** How often each value is read. A snapshot: passes that change operands count anew. */
import { type Graph, operands, terminatorOperands, type Value } from '../ir.ts';

/** Counts the reads of each value in all blocks. */
export function countUses(graph: Graph): Map<Value, number> {
  const uses = new Map<Value, number>();
  const count = (value: Value): void => {
    uses.set(value, (uses.get(value) ?? 0) + 1);
  };
  for (const block of graph.blocks) {
    for (const node of block.nodes) for (const value of operands(node)) count(value);
    for (const value of terminatorOperands(block.terminator)) count(value);
  }
  return uses;
}
