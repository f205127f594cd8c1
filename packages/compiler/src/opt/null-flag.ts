/**
 * The verifier lets no packet pointer be compared with 0. Where threading left such a test of a phi of pointers and
 * nulls, a phi of ones and zeros beside it is tested instead: on each path the verifier knows which it is.
 */
import { append, type Block, createNode, type Graph, type Phi, type Value } from '../ir.ts';
import { constant } from './fold-operand.ts';

/** Rewrites every null test of a packet pointer. Returns true where there was one. */
export function flagNullTests(graph: Graph): boolean {
  const flags = new Map<Value, Value>();
  let changed = false;
  for (const block of graph.blocks) {
    const t = block.terminator;
    if (t?.kind !== 'branch' || (t.op !== 'eq' && t.op !== 'ne')) continue;
    if (t.left.kind !== 'phi' || t.left.pointer !== 'packet' || t.right.kind !== 'const' || t.right.value !== 0n) continue;
    block.terminator = { ...t, left: flagOf(graph, t.left, flags), width: 64 };
    changed = true;
  }
  return changed;
}

/** 1 where a packet pointer is one, 0 where it is null. */
function flagOf(graph: Graph, value: Value, flags: Map<Value, Value>): Value {
  const known = flags.get(value);
  if (known) return known;
  if (value.kind !== 'phi') return constant(graph, value.kind === 'const' && value.value === 0n ? 0n : 1n);
  const flag: Phi = createNode(graph, { kind: 'phi', inputs: [], place: value.place });
  flags.set(value, flag);
  append(value.block as Block, flag);
  flag.inputs = value.inputs.map((input) => flagOf(graph, input, flags));
  return flag;
}
