/** The optimiser: the passes of this folder in their order. */
import type { Graph } from '../ir.ts';
import { eliminateDeadCode } from './dce.ts';
import { floatValues } from './float.ts';
import { fold } from './fold.ts';
import { dropUnreachable, simplifyCfg } from './simplify-cfg.ts';

/** Rewrites a graph in place into one that means the same and costs less. */
export function optimise(graph: Graph): void {
  dropUnreachable(graph);
  floatValues(graph);
  for (let round = 0; round < 10; round++) {
    let changed = simplifyCfg(graph);
    changed = fold(graph) || changed;
    changed = eliminateDeadCode(graph) || changed;
    if (!changed) break;
  }
}
