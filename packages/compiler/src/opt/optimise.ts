/** The optimiser: the passes of this folder in their order. */
import type { Block, Graph } from '../ir.ts';
import { eliminateDeadCode } from './dce.ts';
import { floatValues } from './float.ts';
import { fold } from './fold.ts';
import { numberValues } from './gvn.ts';
import { dropUnreachable, simplifyCfg } from './simplify-cfg.ts';
import { threadJumps } from './thread.ts';

/** Rewrites a graph in place into one that means the same and costs less. */
export function optimise(graph: Graph): void {
  dropUnreachable(graph);
  floatValues(graph);
  const threading = { rotated: new WeakSet<Block>() };
  for (let round = 0; round < 10; round++) {
    let changed = simplifyCfg(graph);
    changed = fold(graph) || changed;
    changed = numberValues(graph) || changed;
    changed = threadJumps(graph, threading) || changed;
    changed = eliminateDeadCode(graph) || changed;
    if (!changed) break;
  }
}
