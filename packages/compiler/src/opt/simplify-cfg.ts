/**
 * Cleans up control flow: constant branches, blocks that only jump, straight lines of blocks, equal returns, phis with
 * one value, unreachable blocks.
 */
import {
  type Block,
  type Graph,
  type Phi,
  redirect,
  reversePostOrder,
  setTerminator,
  successors,
  type Terminator,
  type Value,
} from '../ir.ts';
import { evaluateCompare } from './evaluate.ts';
import { floatingKey } from './float.ts';
import { Substitution } from './substitution.ts';
import { countUses } from './uses.ts';

/** Rewrites until nothing changes. Returns true where something did. */
export function simplifyCfg(graph: Graph): boolean {
  let changed = false;
  for (let again = true; again; ) {
    again = false;
    dropUnreachable(graph);
    for (const step of [foldBranches, simplifyPhis, mergeReturns, skipJumps, mergeLines])
      if (step(graph)) {
        again = true;
        changed = true;
      }
  }
  return changed;
}

/** Takes out what cannot be reached, with its edges into what can. */
export function dropUnreachable(graph: Graph): void {
  const reachable = new Set(reversePostOrder(graph));
  for (const block of graph.blocks) if (!reachable.has(block)) setTerminator(block, undefined);
  graph.blocks = graph.blocks.filter((block) => reachable.has(block));
}

function foldBranches(graph: Graph): boolean {
  let changed = false;
  for (const block of graph.blocks) {
    const t = block.terminator;
    const target = t && decided(t);
    if (!target) continue;
    setTerminator(block, { kind: 'jump', target, place: t.place });
    changed = true;
  }
  if (changed) dropUnreachable(graph);
  return changed;
}

/** Where a conditional terminator always goes. */
function decided(t: Terminator): Block | undefined {
  if (t.kind === 'branch') {
    if (t.then === t.else) return t.then;
    if (t.left.kind === 'const' && t.right.kind === 'const')
      return evaluateCompare(t.op, t.width, t.left.value, t.right.value) ? t.then : t.else;
  }
  return t.kind === 'check' && t.ok === t.fail ? t.ok : undefined;
}

/** Replaces phis whose inputs are all one value, or themselves. */
export function simplifyPhis(graph: Graph): boolean {
  let changed = false;
  for (let again = true; again; ) {
    const replaced = new Substitution();
    for (const block of graph.blocks)
      for (const node of block.nodes) {
        if (node.kind !== 'phi') continue;
        const only = onlyInput(node, replaced);
        if (only) replaced.replace(node, only);
      }
    again = replaced.size > 0;
    changed ||= again;
    replaced.apply(graph);
  }
  return changed;
}

function onlyInput(phi: Phi, replaced: Substitution): Value | undefined {
  let only: Value | undefined;
  for (const input of phi.inputs) {
    const value = replaced.resolve(input);
    if (value === phi || value === only) continue;
    if (only && !sameValue(only, value)) return undefined;
    only ??= value;
  }
  return only;
}

/** The same node, or equal floating ones. */
export function sameValue(a: Value, b: Value): boolean {
  if (a === b) return true;
  const key = floatingKey(a);
  return key !== undefined && key === floatingKey(b);
}

/** Blocks that do nothing but return the same value become one. */
function mergeReturns(graph: Graph): boolean {
  const known = new Map<string, Block>();
  let changed = false;
  for (const block of reversePostOrder(graph)) {
    const t = block.terminator;
    if (t?.kind !== 'return' || block.nodes.length > 0 || block === graph.entry) continue;
    const key = floatingKey(t.value) ?? `%${t.value.id}`;
    const first = known.get(key);
    if (!first) known.set(key, block);
    else {
      for (const p of [...block.predecessors]) redirect(p, block, first);
      changed = true;
    }
  }
  return changed;
}

/** Edges to a block that holds nothing but a jump go where it jumps to. */
function skipJumps(graph: Graph): boolean {
  let changed = false;
  let uses: ReadonlyMap<Value, number> | undefined;
  for (const block of [...graph.blocks]) {
    const t = block.terminator;
    if (t?.kind !== 'jump' || block === graph.entry || t.target === block) continue;
    if (block.nodes.some((node) => node.kind !== 'phi')) continue;
    const target = t.target;
    if (block.nodes.length > 0) {
      uses ??= countUses(graph);
      if (!onlyFeedsPhisOf(block, target, uses)) continue;
    }
    for (const p of [...block.predecessors]) {
      if (p === block || !canSkip(p, block, target)) continue;
      const inputs = target.nodes.flatMap((node) => {
        const input = node.kind === 'phi' ? node.inputs[target.predecessors.indexOf(block)] : undefined;
        return input ? [inputFrom(input, block, p)] : [];
      });
      redirect(p, block, target, inputs);
      uses = undefined;
      changed = true;
    }
  }
  if (changed) dropUnreachable(graph);
  return changed;
}

/** What a value of `block` is when control came from `predecessor`. */
function inputFrom(value: Value, block: Block, predecessor: Block): Value {
  if (value.kind !== 'phi' || value.block !== block) return value;
  return value.inputs[block.predecessors.indexOf(predecessor)] ?? value;
}

/** True where phis of `block` are read by phis of `target` alone, along the edge between them. */
function onlyFeedsPhisOf(block: Block, target: Block, uses: ReadonlyMap<Value, number>): boolean {
  const at = target.predecessors.indexOf(block);
  const fed = new Map<Value, number>();
  for (const node of target.nodes) {
    const input = node.kind === 'phi' ? node.inputs[at] : undefined;
    if (input) fed.set(input, (fed.get(input) ?? 0) + 1);
  }
  return block.nodes.every((node) => node.kind !== 'phi' || (uses.get(node) ?? 0) === (fed.get(node) ?? 0));
}

/** An edge can skip `block` unless its predecessor already leads to `target` with other phi inputs. */
function canSkip(predecessor: Block, block: Block, target: Block): boolean {
  const existing = target.predecessors.indexOf(predecessor);
  if (existing < 0) return true;
  const through = target.predecessors.indexOf(block);
  return target.nodes.every((node) => {
    if (node.kind !== 'phi') return true;
    const direct = node.inputs[existing];
    const skipped = node.inputs[through];
    return direct !== undefined && skipped !== undefined && sameValue(direct, inputFrom(skipped, block, predecessor));
  });
}

/** A block and its only successor become one where that has no other predecessor. */
function mergeLines(graph: Graph): boolean {
  let changed = false;
  for (const block of reversePostOrder(graph))
    for (;;) {
      const t = block.terminator;
      if (t?.kind !== 'jump' || t.target === block || t.target.predecessors.length !== 1) break;
      if (t.target.nodes[0]?.kind === 'phi') break;
      absorb(block, t.target);
      changed = true;
    }
  if (changed) dropUnreachable(graph);
  return changed;
}

function absorb(block: Block, next: Block): void {
  const ends = next.terminator;
  for (const node of next.nodes) {
    node.block = block;
    block.nodes.push(node);
  }
  next.nodes = [];
  block.terminator = ends;
  next.terminator = undefined;
  next.predecessors = [];
  for (const s of successors(block)) s.predecessors[s.predecessors.indexOf(next)] = block;
}
