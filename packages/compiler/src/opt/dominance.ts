/**
 * Dominators and natural loops of a graph (Cooper, Harvey, Kennedy: "A Simple, Fast Dominance Algorithm").
 * A snapshot: rebuild it after the control flow changed.
 */
import { type Block, type Graph, reversePostOrder, successors } from '../ir.ts';

export interface Dominance {
  /** Reachable blocks in reverse post-order. */
  readonly order: readonly Block[];
  isReachable(block: Block): boolean;
  /** The immediate dominator; undefined for the entry and for unreachable blocks. */
  parent(block: Block): Block | undefined;
  /** The blocks that `block` immediately dominates, in reverse post-order. */
  children(block: Block): readonly Block[];
  /** True where every path to `block` passes `by`; a block dominates itself. */
  dominates(by: Block, block: Block): boolean;
  /** Natural loops around a block. */
  loopDepth(block: Block): number;
}

/** Computes the dominator tree; loop depths when they are asked for. */
export function dominance(graph: Graph): Dominance {
  const order = reversePostOrder(graph);
  const ranks = new Map(order.map((block, i) => [block, i]));
  const parents = immediateDominators(order, ranks);
  const children: Block[][] = order.map(() => []);
  order.forEach((block, i) => {
    const parent = parents[i] ?? 0;
    if (i > 0) children[parent]?.push(block);
    // a malformed graph, of which verify.ts tells: no predecessor leads here
    if (parent < 0) ranks.delete(block);
  });
  const { first, last } = treeSpans(parents);
  const dominates = (by: Block, block: Block): boolean => {
    const outer = ranks.get(by);
    const inner = ranks.get(block);
    if (outer === undefined || inner === undefined) return false;
    return (first[outer] ?? 0) <= (first[inner] ?? 0) && (last[inner] ?? 0) <= (last[outer] ?? 0);
  };
  let depths: Map<Block, number> | undefined;
  return {
    order,
    isReachable: (block) => ranks.has(block),
    parent: (block) => {
      const rank = ranks.get(block);
      return rank ? order[parents[rank] ?? 0] : undefined;
    },
    children: (block) => children[ranks.get(block) ?? -1] ?? [],
    dominates,
    loopDepth: (block) => {
      depths ??= loopDepths(order, dominates);
      return depths.get(block) ?? 0;
    },
  };
}

/** The rank of each block's immediate dominator, by its own; the entry's is its own. */
function immediateDominators(order: readonly Block[], ranks: ReadonlyMap<Block, number>): Int32Array {
  const parents = new Int32Array(order.length).fill(-1);
  parents[0] = 0;
  const predecessors = order.map((block) => block.predecessors.flatMap((p) => ranks.get(p) ?? []));
  const intersect = (a: number, b: number): number => {
    let x = a;
    let y = b;
    while (x !== y)
      if (x > y) x = parents[x] ?? 0;
      else y = parents[y] ?? 0;
    return x;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (let i = 1; i < order.length; i++) {
      let parent = -1;
      for (const p of predecessors[i] ?? []) if (parents[p] !== -1) parent = parent < 0 ? p : intersect(parent, p);
      if (parents[i] === parent) continue;
      parents[i] = parent;
      changed = true;
    }
  }
  return parents;
}

/** Entry and exit times of a walk over the dominator tree, by rank: containment is dominance. */
function treeSpans(parents: Int32Array): { readonly first: Int32Array; readonly last: Int32Array } {
  const sizes = new Int32Array(parents.length).fill(1);
  for (let i = parents.length - 1; i > 0; i--) sizes[parents[i] ?? 0] = (sizes[parents[i] ?? 0] ?? 0) + (sizes[i] ?? 0);
  const first = new Int32Array(parents.length);
  const last = new Int32Array(parents.length);
  // parents come before their children, each of which takes its part of the rest
  const free = new Int32Array(parents.length);
  free[0] = 1;
  last[0] = sizes[0] ?? 0;
  for (let i = 1; i < parents.length; i++) {
    const parent = parents[i] ?? 0;
    const start = free[parent] ?? 0;
    first[i] = start;
    last[i] = start + (sizes[i] ?? 0);
    free[i] = start + 1;
    free[parent] = last[i] ?? 0;
  }
  return { first, last };
}

function loopDepths(order: readonly Block[], dominates: (by: Block, block: Block) => boolean): Map<Block, number> {
  const bodies = new Map<Block, Set<Block>>();
  for (const block of order)
    for (const header of successors(block)) {
      if (!dominates(header, block)) continue;
      const body = bodies.get(header) ?? new Set([header]);
      bodies.set(header, body);
      const pending = [block];
      for (let b = pending.pop(); b; b = pending.pop()) {
        if (body.has(b)) continue;
        body.add(b);
        pending.push(...b.predecessors);
      }
    }
  const depths = new Map<Block, number>();
  for (const body of bodies.values()) for (const block of body) depths.set(block, (depths.get(block) ?? 0) + 1);
  return depths;
}
