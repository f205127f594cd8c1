/**
 * Signed division for kernels before 6.6, which have no sdiv and smod: on the magnitudes, with the sign put back.
 * Dividing by zero keeps its meaning (RFC 9669): 0, and the dividend for the remainder.
 */
import { type Binary, type BinaryOp, createNode, type Graph, insertBefore, type Value } from '../ir.ts';
import { constant } from './fold-operand.ts';
import { Substitution } from './substitution.ts';

/** Replaces every signed division. Returns true where there was one. */
export function lowerSignedDivision(graph: Graph): boolean {
  const substitution = new Substitution();
  for (const block of graph.blocks)
    for (const node of [...block.nodes])
      if (node.kind === 'binary' && (node.op === 'sdiv' || node.op === 'smod')) substitution.replace(node, expand(graph, node));
  const changed = substitution.size > 0;
  substitution.apply(graph);
  return changed;
}

function expand(graph: Graph, node: Binary): Value {
  const make = (op: BinaryOp, left: Value, right: Value): Value =>
    insertBefore(node, createNode(graph, { kind: 'binary', op, width: node.width, left, right, place: node.place }));
  // All ones where the value is negative: x ^ sign - sign negates exactly then.
  const signOf = (value: Value): Value => make('arsh', value, constant(graph, BigInt(node.width - 1)));
  const flip = (value: Value, sign: Value): Value => make('sub', make('xor', value, sign), sign);
  const leftSign = signOf(node.left);
  const rightSign = signOf(node.right);
  const magnitude = make(node.op === 'sdiv' ? 'div' : 'mod', flip(node.left, leftSign), flip(node.right, rightSign));
  return flip(magnitude, node.op === 'sdiv' ? make('xor', leftSign, rightSign) : leftSign);
}
