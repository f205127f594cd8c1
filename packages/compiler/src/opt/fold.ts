/**
 * Folding: constants, algebraic identities, needless extensions and byte swaps, addresses and comparisons. This file
 * walks the graph; the rules are in fold-binary.ts, fold-unary.ts, fold-compare.ts and fold-memory.ts.
 */
import { type Block, type Graph, insertBefore, mapOperands, mapTerminatorOperands, type Node, remove, type Value } from '../ir.ts';
import { dominance } from './dominance.ts';
import { FlowFacts, knownUnder } from './facts.ts';
import { foldBinary } from './fold-binary.ts';
import { foldCompare } from './fold-compare.ts';
import { foldMemory, narrowLoads, storedValue } from './fold-memory.ts';
import type { FoldContext } from './fold-operand.ts';
import { foldUnary } from './fold-unary.ts';
import { KnownValues } from './known.ts';
import { Substitution } from './substitution.ts';
import { countUses } from './uses.ts';

/** Applies the rules until none does anything. Returns true where the graph changed. */
export function fold(graph: Graph): boolean {
  let changed = false;
  // Each round only shrinks or normalises; the limit guards against rules that undo one another.
  for (let round = 0; round < 20 && foldOnce(graph); round++) changed = true;
  return changed;
}

type Knowledge = Pick<FoldContext, 'known' | 'here' | 'verifiers'>;

function foldOnce(graph: Graph): boolean {
  const substitution = new Substitution();
  const uses = countUses(graph);
  const known = new KnownValues();
  const verifiers = new KnownValues({ asVerifier: true });
  let changed = narrowLoads(graph, uses);
  const tree = dominance(graph);
  const facts = new FlowFacts(tree);
  const knowledge = new Map<Block, KnownValues>();
  for (const block of tree.order) {
    const parent = tree.parent(block);
    const before = (parent && knowledge.get(parent)) ?? known;
    const here = facts.learn(block) ? knownUnder(facts.at(block), known) : before;
    knowledge.set(block, here);
    for (const node of [...block.nodes]) {
      mapOperands(node, substitution.resolve);
      const context: FoldContext = {
        graph,
        known,
        here,
        verifiers,
        isUsedOnce: (value) => uses.get(value) === 1,
        make: (made) => insertBefore(node, made),
      };
      const replacement = foldNode(node, context);
      if (replacement && node.kind !== 'store' && node.kind !== 'atomicAdd') {
        substitution.replace(node, replacement);
        remove(node);
        changed = true;
      } else if (foldInPlace(node, context)) changed = true;
    }
    mapTerminatorOperands(block.terminator, substitution.resolve);
    if (foldTerminator(block, graph, { known, here, verifiers }, uses)) changed = true;
  }
  substitution.apply(graph);
  return changed;
}

/** What stands for a value from now on, if anything. */
function foldNode(node: Node, context: FoldContext): Value | undefined {
  switch (node.kind) {
    case 'binary':
      return foldBinary(node, context);
    case 'unary':
      return foldUnary(node, context);
    default:
      return undefined;
  }
}

/** Changes addresses and stored values where they stand. */
function foldInPlace(node: Node, context: FoldContext): boolean {
  if (node.kind !== 'load' && node.kind !== 'store' && node.kind !== 'atomicAdd') return false;
  let changed = foldMemory(node);
  if (node.kind === 'store') {
    const value = storedValue(node, context);
    if (value !== node.value) {
      node.value = value;
      changed = true;
    }
  }
  return changed;
}

function foldTerminator(block: Block, graph: Graph, knowledge: Knowledge, uses: ReadonlyMap<Value, number>): boolean {
  const t = block.terminator;
  if (t?.kind !== 'branch') return false;
  const folded = foldCompare(t, {
    graph,
    ...knowledge,
    isUsedOnce: (value) => uses.get(value) === 1,
    make: (node) => {
      node.block = block;
      block.nodes.push(node);
      return node;
    },
  });
  if (!folded) return false;
  block.terminator = { ...t, ...folded };
  return true;
}
