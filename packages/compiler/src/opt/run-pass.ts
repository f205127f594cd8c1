/** For tests: a pass over a graph given as text, and what became of it as text. */
import { type Graph, printGraph } from '../ir.ts';
import { floatValues } from './float.ts';
import { parseGraph } from './parse-graph.ts';
import { verifyGraph } from './verify.ts';

/** Parses, checks, runs the passes, checks again and prints. Throws GraphError where a pass breaks the graph. */
export function runPasses(text: string, ...passes: readonly ((graph: Graph) => unknown)[]): string {
  const graph = parseGraph(text);
  verifyGraph(graph);
  floatValues(graph);
  for (const pass of passes) {
    pass(graph);
    verifyGraph(graph);
  }
  return printGraph(graph);
}
