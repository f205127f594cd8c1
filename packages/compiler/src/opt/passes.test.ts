import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { emit } from '../emit/emit.ts';
import { simulate } from '../emit/simulate.ts';
import { type Graph, printGraph } from '../ir.ts';
import { mergeChecks } from './bounds.ts';
import { coalesceStores } from './coalesce.ts';
import { repeatConditions } from './condition.ts';
import { eliminateDeadCode } from './dce.ts';
import { floatValues } from './float.ts';
import { fold } from './fold.ts';
import { numberValues } from './gvn.ts';
import { interpret } from './interpret.ts';
import { flagNullTests } from './null-flag.ts';
import { optimise } from './optimise.ts';
import { RANDOM_GRAPH_MAPS, randomGraph } from './random-graph.ts';
import { rederiveDistances } from './rederive.ts';
import { lowerSignedDivision } from './signed-division.ts';
import { simplifyCfg } from './simplify-cfg.ts';
import { SimulatedWorld } from './simulated-world.ts';
import { sinkValues } from './sink.ts';
import { mergeSlots } from './slots.ts';
import { threadJumps } from './thread.ts';
import { verifyGraph } from './verify.ts';

const packet = Uint8Array.from({ length: 70 }, (_, i) => (i * 37 + 11) & 0xff);
const passes: Readonly<Record<string, (graph: Graph) => unknown>> = {
  'simplify-cfg': simplifyCfg,
  fold,
  dce: eliminateDeadCode,
  gvn: numberValues,
  thread: (graph) => threadJumps(graph),
  bounds: mergeChecks,
  coalesce: coalesceStores,
  condition: repeatConditions,
  'signed-division': lowerSignedDivision,
  'null-flag': flagNullTests,
  slots: mergeSlots,
  rederive: rederiveDistances,
  sink: sinkValues,
  optimise,
};

describe('a pass keeps the meaning of every graph', () => {
  for (const [name, pass] of Object.entries(passes))
    test(name, () => {
      fc.assert(
        fc.property(
          fc.array(fc.nat(255), { minLength: 20, maxLength: 400, size: 'max' }),
          fc.constantFrom(20, 40, 70),
          (choices, length) => {
            const graph = randomGraph(choices);
            const run = (): SimulatedWorld => new SimulatedWorld(packet.subarray(0, length), RANDOM_GRAPH_MAPS);
            const [expected, actual, emitted] = [run(), run(), run()];
            const result = interpret(graph, expected);
            floatValues(graph);
            pass(graph);
            verifyGraph(graph);
            const shown = printGraph(graph);
            expect(interpret(graph, actual), shown).toBe(result);
            expect(actual.observe(), shown).toBe(expected.observe());
            if (name !== 'optimise') return;
            expect(simulate(emit(graph), emitted), shown).toBe(result);
            expect(emitted.observe(), shown).toBe(expected.observe());
          },
        ),
        { numRuns: Number(process.env.TAILRACE_RUNS ?? 80) },
      );
    });
});
