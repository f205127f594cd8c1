import fc from 'fast-check';
import { expect, test } from 'vitest';
import { interpret } from '../opt/interpret.ts';
import { optimise } from '../opt/optimise.ts';
import { RANDOM_GRAPH_MAPS, randomGraph } from '../opt/random-graph.ts';
import { SimulatedWorld } from '../opt/simulated-world.ts';
import { allocate } from './allocate.ts';
import { encodeFunction } from './encode.ts';
import { forwardSpills } from './forward.ts';
import { layout } from './layout.ts';
import { select } from './select.ts';
import { simulate } from './simulate.ts';
import { placeSlots } from './stack.ts';

const packet = Uint8Array.from({ length: 70 }, (_, i) => (i * 37 + 11) & 0xff);

test.each([7, 8, 10])('random graphs with %i registers', (count) => {
  let spills = 0;
  fc.assert(
    fc.property(fc.array(fc.nat(255), { minLength: 60, maxLength: 300, size: 'max' }), fc.boolean(), (choices, isOptimised) => {
      const graph = randomGraph(choices);
      const [expected, actual] = [new SimulatedWorld(packet, RANDOM_GRAPH_MAPS), new SimulatedWorld(packet, RANDOM_GRAPH_MAPS)];
      const result = interpret(graph, expected);
      if (isOptimised) optimise(graph);
      const fn = select(graph);
      spills += allocate(
        fn,
        Array.from({ length: count }, (_, i) => i),
      );
      forwardSpills(fn);
      const stack = placeSlots(fn, 'random');
      layout(fn);
      expect(simulate(encodeFunction(fn, stack), actual)).toBe(result);
      expect(actual.observe()).toBe(expected.observe());
    }),
    { numRuns: Number(process.env.TAILRACE_RUNS ?? 50) },
  );
  if (count === 7) expect(spills).toBeGreaterThan(10);
});
