/**
 * Takes constants, stack addresses and map handles out of their blocks and makes equal ones one node: they cost nothing
 * until emit/select.ts makes them at each use, so that no pass needs to ask where they stand.
 */
import { type Graph, mapOperands, mapTerminatorOperands, type Node, type Value } from '../ir.ts';

/** Values that stand in no block and may be used anywhere. */
export function isFloating(node: Node): boolean {
  return node.kind === 'const' || node.kind === 'stackAddress' || node.kind === 'map';
}

/** Floats every such value of a graph. */
export function floatValues(graph: Graph): void {
  const known = new Map<string, Value>();
  const unify = (value: Value): Value => {
    const key = floatingKey(value);
    if (key === undefined) return value;
    const found = known.get(key);
    if (found) return found;
    known.set(key, value);
    value.block = undefined;
    return value;
  };
  for (const block of graph.blocks) {
    block.nodes = block.nodes.filter((node) => !isFloating(node));
    for (const node of block.nodes) mapOperands(node, unify);
    mapTerminatorOperands(block.terminator, unify);
  }
}

/** Equal for equal floating values; undefined for all others. */
export function floatingKey(value: Value): string | undefined {
  switch (value.kind) {
    case 'const':
      return `${value.value}`;
    case 'stackAddress':
      return `s${value.slot.id}+${value.offset}`;
    case 'map':
      return `@${value.map}`;
    default:
      return undefined;
  }
}
