/**
 * Folding: constants, algebraic identities, needless extensions and byte swaps, addresses and comparisons. This file
 * walks the graph; the rules are in fold-binary.ts, fold-unary.ts, fold-compare.ts and fold-memory.ts.
 */
import {
  type Block,
  type Graph,
  insertBefore,
  mapOperands,
  mapTerminatorOperands,
  type Node,
  operands,
  remove,
  terminatorOperands,
  type Value,
} from '../ir.ts';
import { dominance } from './dominance.ts';
import { knownAt } from './facts.ts';
import { foldBinary } from './fold-binary.ts';
import { foldCompare } from './fold-compare.ts';
import { foldMemory, storedValue } from './fold-memory.ts';
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

function foldOnce(graph: Graph): boolean {
  const substitution = new Substitution();
  const uses = new Readers(graph);
  const known = new KnownValues();
  let changed = false;
  const tree = dominance(graph);
  for (const block of tree.order) {
    const here = knownAt(block, tree, known);
    for (const node of [...block.nodes]) {
      mapOperands(node, substitution.resolve);
      const context: FoldContext = {
        graph,
        known,
        here,
        isUsedOnce: uses.isOne,
        make: (made) => {
          operands(made).forEach(uses.gain);
          return insertBefore(node, made);
        },
      };
      const replacement = foldNode(node, context);
      if (replacement && node.kind !== 'store' && node.kind !== 'atomicAdd') {
        uses.gain(replacement);
        substitution.replace(node, replacement);
        remove(node);
        changed = true;
      } else if (foldInPlace(node, context)) {
        operands(node).forEach(uses.gain);
        changed = true;
      }
    }
    mapTerminatorOperands(block.terminator, substitution.resolve);
    if (foldTerminator(block, graph, known, here, uses)) changed = true;
  }
  substitution.apply(graph);
  return changed;
}

/** Who reads what: a count from the start of a round, and the values that got more readers since. */
class Readers {
  private readonly counted: ReadonlyMap<Value, number>;
  private readonly gained = new Set<Value>();

  constructor(graph: Graph) {
    this.counted = countUses(graph);
  }

  isOne = (value: Value): boolean => this.counted.get(value) === 1 && !this.gained.has(value);

  gain = (value: Value): void => {
    this.gained.add(value);
  };
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

function foldTerminator(block: Block, graph: Graph, known: KnownValues, here: KnownValues, uses: Readers): boolean {
  const t = block.terminator;
  if (t?.kind !== 'branch') return false;
  const folded = foldCompare(t, {
    graph,
    known,
    here,
    isUsedOnce: uses.isOne,
    make: (node) => {
      operands(node).forEach(uses.gain);
      node.block = block;
      block.nodes.push(node);
      return node;
    },
  });
  if (!folded) return false;
  block.terminator = { ...t, ...folded };
  terminatorOperands(block.terminator).forEach(uses.gain);
  return true;
}
