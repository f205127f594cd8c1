/** Checks that a graph is well formed. Tests run it after each pass; a failure is a bug of the compiler. */
import { TailraceError } from '@tailrace/bpf';
import { type Block, type Graph, type Node, operands, printNode, successors, terminatorOperands, type Value } from '../ir.ts';
import { type Dominance, dominance } from './dominance.ts';

/** A graph that breaks a rule of ir.ts. */
export class GraphError extends TailraceError {
  readonly problems: readonly string[];

  constructor(name: string, problems: readonly string[]) {
    super('compile', `graph of ${name} is malformed: ${problems.join('; ')}`);
    this.problems = problems;
  }
}

/**
 * Throws GraphError unless: every reachable block ends in a terminator, predecessors mirror successors, phis come first
 * with one input for each predecessor, nodes know their block, and every use is dominated by its definition.
 */
export function verifyGraph(graph: Graph): void {
  const problems: string[] = [];
  const tree = dominance(graph);
  const reachable = new Set(tree.order);
  if (graph.entry.predecessors.length > 0) problems.push('the entry has predecessors');
  for (const block of tree.order) {
    if (!graph.blocks.includes(block)) problems.push(`b${block.id} is reachable but not listed`);
    if (!block.terminator) problems.push(`b${block.id} has no terminator`);
    checkEdges(block, reachable, problems);
    checkNodes(block, problems);
    checkUses(block, tree, problems);
  }
  if (problems.length > 0) throw new GraphError(graph.name, problems);
}

function checkEdges(block: Block, reachable: ReadonlySet<Block>, problems: string[]): void {
  for (const s of successors(block))
    if (s.predecessors.filter((p) => p === block).length !== 1) problems.push(`b${s.id} does not list b${block.id} once as predecessor`);
  for (const p of block.predecessors)
    if (reachable.has(p) && !successors(p).includes(block)) problems.push(`b${p.id} does not lead to b${block.id}`);
}

function checkNodes(block: Block, problems: string[]): void {
  let phisOver = false;
  const seen = new Set<Node>();
  for (const node of block.nodes) {
    if (node.block !== block) problems.push(`%${node.id} stands in b${block.id} but names another block`);
    if (seen.has(node)) problems.push(`%${node.id} stands twice in b${block.id}`);
    seen.add(node);
    if (node.kind !== 'phi') phisOver = true;
    else {
      if (phisOver) problems.push(`phi %${node.id} stands behind other nodes`);
      if (node.inputs.length !== block.predecessors.length)
        problems.push(`phi %${node.id} has ${node.inputs.length} inputs, expected ${block.predecessors.length}`);
    }
  }
}

function checkUses(block: Block, tree: Dominance, problems: string[]): void {
  const position = new Map(block.nodes.map((node, i) => [node, i]));
  const check = (value: Value, at: Block, before: number, user: string): void => {
    if (value.kind === 'const' || value.kind === 'stackAddress' || value.kind === 'map') return;
    const home = value.block;
    if (!home) problems.push(`${user} uses %${value.id}, which is in no block`);
    else if (home === at && at === block) {
      if ((position.get(value) ?? Number.POSITIVE_INFINITY) >= before) problems.push(`${user} uses %${value.id} before it is made`);
    } else if (!tree.dominates(home, at)) problems.push(`${user} uses %${value.id} of b${home.id}, which does not dominate b${at.id}`);
  };
  block.nodes.forEach((node, i) => {
    const user = `'${printNode(node)}' of b${block.id}`;
    if (node.kind === 'phi')
      node.inputs.forEach((input, k) => {
        const from = block.predecessors[k];
        if (from && tree.dominates(tree.order[0] ?? from, from)) check(input, from, Number.POSITIVE_INFINITY, user);
      });
    else for (const value of operands(node)) check(value, block, i, user);
  });
  for (const value of terminatorOperands(block.terminator)) check(value, block, Number.POSITIVE_INFINITY, `the end of b${block.id}`);
}
