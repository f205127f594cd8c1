/**
 * Dominators and natural loops of a graph (Cooper, Harvey, Kennedy: "A Simple, Fast Dominance Algorithm").
 * A snapshot: rebuild it after the control flow changed.
 */
import { type Block, type Graph, reversePostOrder, successors } from '../ir.ts';

export interface Dominance {
  /** Reachable blocks in reverse post-order. */
  readonly order: readonly Block[];
  /** The immediate dominator; undefined for the entry and for unreachable blocks. */
  parent(block: Block): Block | undefined;
  /** The blocks that `block` immediately dominates, in reverse post-order. */
  children(block: Block): readonly Block[];
  /** True where every path to `block` passes `by`; a block dominates itself. */
  dominates(by: Block, block: Block): boolean;
  /** Blocks whose predecessors `block` dominates without strictly dominating them. */
  frontier(block: Block): ReadonlySet<Block>;
  /** Natural loops around a block. */
  loopDepth(block: Block): number;
}

/** Computes the dominator tree, its frontiers and loop depths. */
export function dominance(graph: Graph): Dominance {
  const order = reversePostOrder(graph);
  const index = new Map(order.map((block, i) => [block, i]));
  const parents = immediateDominators(order, index);
  const children = new Map<Block, Block[]>(order.map((block) => [block, []]));
  for (const block of order) {
    const parent = parents.get(block);
    if (parent) children.get(parent)?.push(block);
  }
  const span = treeSpans(graph.entry, children);
  const dominates = (by: Block, block: Block): boolean => {
    const outer = span.get(by);
    const inner = span.get(block);
    return outer !== undefined && inner !== undefined && outer.first <= inner.first && inner.last <= outer.last;
  };
  let frontiers: Map<Block, Set<Block>> | undefined;
  let depths: Map<Block, number> | undefined;
  return {
    order,
    parent: (block) => parents.get(block),
    children: (block) => children.get(block) ?? [],
    dominates,
    frontier: (block) => {
      frontiers ??= dominanceFrontiers(order, parents);
      return frontiers.get(block) ?? new Set();
    },
    loopDepth: (block) => {
      depths ??= loopDepths(order, dominates);
      return depths.get(block) ?? 0;
    },
  };
}

function immediateDominators(order: readonly Block[], index: ReadonlyMap<Block, number>): Map<Block, Block> {
  const parents = new Map<Block, Block>();
  const entry = order[0];
  const rank = (block: Block): number => index.get(block) ?? 0;
  const intersect = (a: Block, b: Block): Block => {
    let x: Block | undefined = a;
    let y: Block | undefined = b;
    while (x && y && x !== y)
      if (rank(x) > rank(y)) x = parents.get(x);
      else y = parents.get(y);
    return x ?? y ?? a;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of order) {
      if (block === entry) continue;
      let parent: Block | undefined;
      for (const p of block.predecessors) {
        if (p !== entry && !parents.has(p)) continue;
        parent = parent ? intersect(parent, p) : p;
      }
      if (parent && parents.get(block) !== parent) {
        parents.set(block, parent);
        changed = true;
      }
    }
  }
  return parents;
}

interface Span {
  readonly first: number;
  readonly last: number;
}

/** Entry and exit times of a walk over the dominator tree: containment is dominance. */
function treeSpans(entry: Block, children: ReadonlyMap<Block, readonly Block[]>): Map<Block, Span> {
  const spans = new Map<Block, Span>();
  let time = 0;
  const walk = (block: Block): void => {
    const first = time++;
    for (const child of children.get(block) ?? []) walk(child);
    spans.set(block, { first, last: time++ });
  };
  walk(entry);
  return spans;
}

function dominanceFrontiers(order: readonly Block[], parents: ReadonlyMap<Block, Block>): Map<Block, Set<Block>> {
  const frontiers = new Map<Block, Set<Block>>(order.map((block) => [block, new Set()]));
  for (const block of order) {
    if (block.predecessors.length < 2) continue;
    for (const p of block.predecessors) {
      let runner: Block | undefined = frontiers.has(p) ? p : undefined;
      while (runner && runner !== parents.get(block)) {
        frontiers.get(runner)?.add(block);
        runner = parents.get(runner);
      }
    }
  }
  return frontiers;
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
