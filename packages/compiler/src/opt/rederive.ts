/**
 * The verifier knows bounds of the value that was compared, and of what is computed from it afterwards. Where a pointer
 * is moved by something that was computed before the comparison (value numbering brings that about), it is computed
 * again behind it.
 */
import { type Binary, createNode, type Graph, insertBefore, type Unary, type Value } from '../ir.ts';
import { dominance } from './dominance.ts';
import { FlowFacts } from './facts.ts';

/** Computes distances again where a branch in between told more of what they come from. Returns true where one was. */
export function rederiveDistances(graph: Graph): boolean {
  const tree = dominance(graph);
  const facts = new FlowFacts(tree);
  for (const block of tree.order) facts.learn(block);
  let changed = false;
  for (const block of tree.order)
    for (const node of [...block.nodes]) {
      if (node.kind !== 'binary' || node.pointer === undefined || node.right.kind === 'const') continue;
      const fresh = rederived(graph, node.right, node, facts);
      if (fresh === node.right) continue;
      node.right = fresh;
      changed = true;
    }
  return changed;
}

/** The value computed before `user` again if its operand is known better there; otherwise the value. */
function rederived(graph: Graph, value: Value, user: Binary, facts: FlowFacts): Value {
  if (!isStep(value) || !value.block || !user.block || value.block === user.block) return value;
  const operand = value.kind === 'unary' ? value.operand : value.left;
  const inner = rederived(graph, operand, user, facts);
  if (inner === operand && !isKnownBetter(operand, value, user, facts)) return value;
  const fields = value.kind === 'unary' ? { ...value, operand: inner } : { ...value, left: inner };
  return insertBefore(user, createNode<'binary' | 'unary'>(graph, fields));
}

/** One operation on a value and a constant. */
function isStep(value: Value): value is Binary | Unary {
  if (value.kind === 'unary') return true;
  return value.kind === 'binary' && value.pointer === undefined && value.right.kind === 'const';
}

/** True where branches between the two places compared `operand`. */
function isKnownBetter(operand: Value, value: Binary | Unary, user: Binary, facts: FlowFacts): boolean {
  if (!value.block || !user.block) return false;
  const count = (at: typeof user.block): number => facts.at(at).comparisons(operand).length;
  return count(user.block) > count(value.block);
}
