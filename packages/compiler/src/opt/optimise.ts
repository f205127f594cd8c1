/** The optimiser: the passes of this folder in their order. */
import type { Block, Graph } from '../ir.ts';
import { mergeChecks } from './bounds.ts';
import { coalesceStores } from './coalesce.ts';
import { repeatConditions } from './condition.ts';
import { eliminateDeadCode } from './dce.ts';
import { floatValues } from './float.ts';
import { fold } from './fold.ts';
import { numberValues } from './gvn.ts';
import { flagNullTests } from './null-flag.ts';
import { rederiveDistances } from './rederive.ts';
import { lowerSignedDivision } from './signed-division.ts';
import { dropUnreachable, simplifyCfg } from './simplify-cfg.ts';
import { sinkValues } from './sink.ts';
import { mergeSlots } from './slots.ts';
import { type ThreadingState, threadJumps } from './thread.ts';

/** Rounds after which a graph that still changes is taken as it is. */
const ROUND_LIMIT = 12;

/** Rewrites a graph in place into one that means the same and costs less. */
export function optimise(graph: Graph): void {
  dropUnreachable(graph);
  floatValues(graph);
  const threading: ThreadingState = { rotated: new WeakSet<Block>() };
  settle(graph, threading);
  if (repeatConditions(graph)) settle(graph, threading);
  // What the kernel cannot run goes now; stores are joined last, when all that can be known of their values is.
  const lowered = lowerSignedDivision(graph);
  const coalesced = coalesceStores(graph);
  if (lowered || coalesced) settle(graph, threading);
  if (flagNullTests(graph)) settle(graph, threading);
  eliminateDeadCode(graph);
  sinkValues(graph);
  rederiveDistances(graph);
}

/** Runs the passes that feed each other in turn until each of them finds nothing to change. */
function settle(graph: Graph, threading: ThreadingState): void {
  const thread = (g: Graph): boolean => threadJumps(g, threading);
  const passes = [simplifyCfg, fold, numberValues, thread, mergeChecks, mergeSlots, eliminateDeadCode];
  let quiet = 0;
  for (let round = 0; round < ROUND_LIMIT; round++)
    for (const pass of passes) {
      quiet = pass(graph) ? 0 : quiet + 1;
      if (quiet === passes.length) return;
    }
}
