/**
 * How often each block runs for one run of the program, guessed: from hints, from what checks and null tests are for,
 * and from loops.
 */
import { type Block, type Branch, type Graph, successors } from '../ir.ts';
import type { Dominance } from './dominance.ts';

const LIKELY = 0.9;
/** Trips that a loop is taken to make. */
const TRIPS = 8;

/** Estimates the frequency of every reachable block; the entry's is 1. */
export function estimateFrequencies(graph: Graph, tree: Dominance): Map<Block, number> {
  const frequencies = new Map<Block, number>([[graph.entry, 1]]);
  for (const block of tree.order) {
    if (block === graph.entry) continue;
    let frequency = 0;
    let isHeader = false;
    for (const p of block.predecessors) {
      if (tree.dominates(block, p)) isHeader = true;
      else frequency += (frequencies.get(p) ?? 0) * probability(p, block);
    }
    frequencies.set(block, isHeader ? frequency * TRIPS : frequency);
  }
  return frequencies;
}

/** How likely control goes from a block to one of its successors. */
export function probability(from: Block, to: Block): number {
  const t = from.terminator;
  if (successors(from).length < 2) return 1;
  if (t?.kind === 'check') return t.ok === to ? LIKELY : 1 - LIKELY;
  if (t?.kind !== 'branch') return 1;
  const likely = t.likely ?? guess(t);
  if (!likely) return 0.5;
  return (likely === 'then' ? t.then : t.else) === to ? LIKELY : 1 - LIKELY;
}

/** The usual side of a branch: pointers are there, and blocks that only return are the way out. */
export function guess(t: Branch): 'then' | 'else' | undefined {
  if (t.left.kind === 'call' && t.left.pointer && t.right.kind === 'const' && t.right.value === 0n) {
    if (t.op === 'eq') return 'else';
    if (t.op === 'ne') return 'then';
  }
  const [then, otherwise] = [isWayOut(t.then), isWayOut(t.else)];
  if (then === otherwise) return undefined;
  return then ? 'else' : 'then';
}

function isWayOut(block: Block): boolean {
  return block.terminator?.kind === 'return' && block.nodes.every((node) => node.kind === 'phi');
}
