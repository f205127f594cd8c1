/** Which loads may be done again at a use instead of keeping their value: those whose memory does not change until then. */
import { type Block, type Graph, type Load, type Node, operands, type Space, terminatorOperands, type Value } from '../ir.ts';
import { memoryVersions } from '../opt/memory.ts';

const REPEATABLE: ReadonlySet<Space> = new Set(['context', 'skb', 'packet']);

/**
 * Loads from the context and the packet that yield the same at each of their uses. `data` is not among them: a pointer
 * that is loaded anew has lost the range that a check gave it. Nor are values that become distances or sizes: the
 * verifier knows the bounds of the value that was compared, not of one that is loaded anew.
 */
export function repeatableLoads(graph: Graph): Set<Value> {
  const versions = memoryVersions(graph);
  const candidates = new Set<Value>();
  const unrepeatable = boundedValues(graph);
  for (const block of graph.blocks) {
    for (const node of block.nodes) if (node.kind === 'load' && REPEATABLE.has(node.space)) candidates.add(node);
  }
  const check = (value: Value, user: Node | undefined, at: Block): void => {
    if (!candidates.has(value) || value.kind !== 'load') return;
    const { space } = value;
    const there = user ? versions.before(user, space) : versions.atEnd(at, space);
    if (there !== versions.before(value, space)) unrepeatable.add(value);
    if (value.pointer !== undefined && !isOnlyEnd(value, user, at)) unrepeatable.add(value);
  };
  for (const block of graph.blocks) {
    for (const node of block.nodes)
      if (node.kind === 'phi')
        node.inputs.forEach((input, i) => {
          const from = block.predecessors[i];
          if (from) check(input, undefined, from);
        });
      else for (const value of operands(node)) check(value, node, block);
    for (const value of terminatorOperands(block.terminator)) check(value, undefined, block);
  }
  return new Set([...candidates].filter((value) => !unrepeatable.has(value)));
}

/** True where a use of a packet pointer is as the end of a bounds check. */
function isOnlyEnd(value: Load, user: Node | undefined, at: Block): boolean {
  return user === undefined && at.terminator?.kind === 'check' && at.terminator.end === value && at.terminator.pointer !== value;
}

/** Values that pointers are moved by or calls are told, and all that these are computed from. */
function boundedValues(graph: Graph): Set<Value> {
  const bounded = new Set<Value>();
  const pending: Value[] = [];
  for (const block of graph.blocks)
    for (const node of block.nodes) {
      if (node.kind === 'call') pending.push(...node.args);
      if (node.kind === 'binary' && node.pointer !== undefined) pending.push(node.right);
    }
  for (let value = pending.pop(); value; value = pending.pop()) {
    if (bounded.has(value)) continue;
    bounded.add(value);
    if (value.kind === 'binary' || value.kind === 'unary' || value.kind === 'phi') pending.push(...operands(value));
  }
  return bounded;
}
