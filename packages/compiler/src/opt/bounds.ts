/**
 * Bounds checks of one packet: pointers at constant distances become one base, and a check that is followed by a larger
 * one of the same base grows to it where every way between them that does not reach the larger ends at the same place
 * as its failure. Checks that earlier ones decide are removed by thread.ts.
 */
import { type Block, type BoundsCheck, type Graph, type Node, reversePostOrder, setTerminator, successors } from '../ir.ts';
import { normalise } from './facts.ts';
import { sameValue } from './simplify-cfg.ts';

/** Largest distance from a packet pointer that the verifier follows (MAX_PACKET_OFF, kernel/bpf/verifier.c). */
const MAX_PACKET_OFFSET = 0xffffn;

/** Normalises and merges checks. Returns true where the graph changed. */
export function mergeChecks(graph: Graph): boolean {
  let changed = false;
  for (const block of reversePostOrder(graph)) {
    const t = block.terminator;
    if (t?.kind !== 'check') continue;
    const { base, size } = normalise(t);
    if (base !== t.pointer && size >= 0n && size <= MAX_PACKET_OFFSET) {
      block.terminator = { ...t, pointer: base, size: Number(size) };
      changed = true;
    }
  }
  for (const block of reversePostOrder(graph)) {
    let t = block.terminator;
    while (t?.kind === 'check') {
      const larger = followingCheck(block, t);
      if (!larger) break;
      const end: BoundsCheck = larger.check;
      t = { ...t, size: Math.max(t.size, end.size) };
      block.terminator = t;
      setTerminator(larger.block, { kind: 'jump', target: end.ok, place: end.place });
      changed = true;
    }
  }
  return changed;
}

/** The next check of the same base on the line of blocks behind a successful one, if it may be done at once. */
function followingCheck(block: Block, first: BoundsCheck): { readonly block: Block; readonly check: BoundsCheck } | undefined {
  let at = first.ok;
  for (;;) {
    if (at.predecessors.length !== 1 || at.nodes.some(hasEffect)) return undefined;
    const t = at.terminator;
    if (!t || t.kind === 'return') return undefined;
    if (t.kind === 'check' && t.pointer === first.pointer && t.end === first.end)
      return failsAlike(block, at, first.fail, t.fail) ? { block: at, check: t } : undefined;
    // Exactly one way may go on; all others must end where the first failure does.
    const onward = successors(at).filter((s) => s !== first.fail || !failsAlike(block, at, first.fail, s));
    const [next, ...more] = onward;
    if (!next || more.length > 0 || next === block) return undefined;
    at = next;
  }
}

/** True where the edges `a` to `fail` and `b` to `other` lead to one block with the same values. */
function failsAlike(a: Block, b: Block, fail: Block, other: Block): boolean {
  if (fail !== other) return false;
  const first = fail.predecessors.indexOf(a);
  const second = fail.predecessors.indexOf(b);
  return fail.nodes.every((node) => {
    if (node.kind !== 'phi') return true;
    const [x, y] = [node.inputs[first], node.inputs[second]];
    return x !== undefined && y !== undefined && sameValue(x, y);
  });
}

function hasEffect(node: Node): boolean {
  return node.kind === 'store' || node.kind === 'atomicAdd' || (node.kind === 'call' && !node.pure);
}
