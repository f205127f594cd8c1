/**
 * Branches on booleans that an earlier branch decided (a phi of ones and zeros on its two sides) compare again what that
 * one compared, so that no boolean needs to be made. Flags that stand for null tests of packet pointers stay: through
 * them the verifier knows on which paths a pointer was checked, and null-flag.ts makes them after this.
 */
import type { Block, Branch, Graph, Phi } from '../ir.ts';
import { type Dominance, dominance } from './dominance.ts';
import { NEGATED } from './evaluate.ts';
import { constantOf } from './fold-operand.ts';

/** Rewrites such branches. Returns true where there was one. */
export function repeatConditions(graph: Graph): boolean {
  const tree = dominance(graph);
  let changed = false;
  for (const block of tree.order) {
    const t = block.terminator;
    if (t?.kind !== 'branch' || t.left.kind !== 'phi' || (t.op !== 'eq' && t.op !== 'ne')) continue;
    const tested = constantOf(t.right);
    const source = tested === undefined ? undefined : decidingBranch(t.left, tested, tree);
    if (!source) continue;
    const { branch, equals } = source;
    const same = { ...t, op: branch.op, width: branch.width, left: branch.left, right: branch.right };
    if (equals === (t.op === 'eq')) block.terminator = same;
    else if (branch.op === 'set') block.terminator = { ...same, ...turned(t) };
    else block.terminator = { ...same, op: NEGATED[branch.op] };
    changed = true;
  }
  return changed;
}

/** The other way round: `set` has no opposite. */
function turned(t: Branch): Pick<Branch, 'then' | 'else' | 'likely'> {
  const sides = { then: t.else, else: t.then };
  return t.likely ? { ...sides, likely: t.likely === 'then' ? 'else' : 'then' } : sides;
}

/**
 * The branch whose two sides tell whether a phi of constants is `tested`. `equals`: it is where the branch holds.
 * Only comparisons with constants are worth keeping their left side for.
 */
function decidingBranch(phi: Phi, tested: bigint, tree: Dominance): { readonly branch: Branch; readonly equals: boolean } | undefined {
  const home = phi.block;
  if (!home || phi.pointer !== undefined) return undefined;
  const decider = tree.parent(home);
  const branch = decider?.terminator;
  if (!decider || branch?.kind !== 'branch' || branch.then === branch.else || constantOf(branch.right) === undefined) return undefined;
  let equals: boolean | undefined;
  for (const [i, input] of phi.inputs.entries()) {
    const value = constantOf(input);
    const from = home.predecessors[i];
    const side = from && sideOf(from, home, decider, branch, tree);
    if (value === undefined || side === undefined) return undefined;
    const here = (value === tested) === side;
    if (equals !== undefined && equals !== here) return undefined;
    equals = here;
  }
  return equals === undefined ? undefined : { branch, equals };
}

/** Whether the edge from `from` to `home` lies behind the side of the branch where it holds; undefined for neither. */
function sideOf(from: Block, home: Block, decider: Block, branch: Branch, tree: Dominance): boolean | undefined {
  if (from === decider) return branch.then === home;
  for (const side of [branch.then, branch.else])
    if (side !== home && side.predecessors.length === 1 && tree.dominates(side, from)) return side === branch.then;
  return undefined;
}
