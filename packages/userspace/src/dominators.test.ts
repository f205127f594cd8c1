/** Dominators by their definition: what cannot be reached any more once a vertex is gone was dominated by it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { dominance, immediateDominators } from './dominators.ts';

/** What is reached from the entry without going through a vertex. */
function reached(successors: readonly (readonly number[])[], without: number): ReadonlySet<number> {
  const found = new Set(without === 0 ? [] : [0]);
  for (const vertex of found) for (const to of successors[vertex] ?? []) if (to !== without) found.add(to);
  return found;
}

/** Graphs of which vertex 0 reaches every vertex: what it does not reach is taken away. */
const graph = fc.array(fc.array(fc.nat(15), { maxLength: 3 }), { minLength: 1, maxLength: 16, size: 'max' }).map((edges) => {
  const all = edges.map((targets) => targets.filter((to) => to < edges.length));
  const kept = [...reached(all, -1)].sort((a, b) => a - b);
  return kept.map((vertex) => (all[vertex] as number[]).map((to) => kept.indexOf(to)));
});

test('any graph', () => {
  fc.assert(
    fc.property(graph, (successors) => {
      const dominators = immediateDominators(successors, 0);
      const dominates = dominance(dominators, 0);
      for (const above of successors.keys()) {
        const left = reached(successors, above);
        for (const below of successors.keys()) expect([above, below, dominates(above, below)]).toEqual([above, below, !left.has(below)]);
      }
    }),
    { numRuns: 200 },
  );
});

test('shapes that are slow to look at from below', () => {
  const count = 200_000;
  const row = Array.from({ length: count }, (_, vertex) => (vertex === count - 1 ? [] : [vertex + 1, count - 1]));
  expect(immediateDominators(row, 0)[count - 1]).toBe(0);
  const back = Array.from({ length: count }, (_, vertex) => (vertex === count - 1 ? [0] : [vertex + 1, 0]));
  const dominators = immediateDominators(back, 0);
  expect(dominators[count - 1]).toBe(count - 2);
  expect(dominance(dominators, 0)(1, count - 1)).toBe(true);
});
