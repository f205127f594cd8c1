/**
 * Jump threading: where the way to a branch already decides it (a phi brings a constant, a null test meets a pointer
 * that is none, an earlier branch told), control goes straight to its destination. The branch's block is copied for
 * those predecessors, one copy for each outcome.
 *
 * Loops: back edges are not threaded. The entry edge of a loop is, once a header, where the header leaves the loop:
 * that turns `while` into `if … do … while`.
 */
import {
  append,
  type Block,
  createBlock,
  createNode,
  type Graph,
  mapOperands,
  type Node,
  type Phi,
  redirect,
  setTerminator,
  successors,
  type Value,
} from '../ir.ts';
import { type Dominance, dominance } from './dominance.ts';
import { evaluateBinary, evaluateUnary } from './evaluate.ts';
import { decideBranch, decideCheck, FlowFacts } from './facts.ts';
import { constant, constantOf } from './fold-operand.ts';
import { KnownValues } from './known.ts';
import { dropUnreachable } from './simplify-cfg.ts';
import { blocksThatRead, pointerOf, repairUses } from './ssa-repair.ts';

/** Nodes that a copy may hold. */
const COPY_LIMIT = 10;
/** Nodes that all copies together may add, for each node that was there. */
const GROWTH_LIMIT = 3;

/** What threading remembers from one run of it to the next. */
export interface ThreadingState {
  /** Loop headers that were entered past their test already. */
  readonly rotated: WeakSet<Block>;
}

/** Threads until nothing is left to thread. Returns true where the graph changed. */
export function threadJumps(graph: Graph, state: ThreadingState = { rotated: new WeakSet() }): boolean {
  let budget = 200 + GROWTH_LIMIT * graph.blocks.reduce((sum, block) => sum + block.nodes.length, 0);
  let changed = false;
  for (;;) {
    const added = threadOnce(graph, state, budget);
    if (added === undefined) return changed;
    changed = true;
    budget -= added;
    if (budget < 0) return changed;
  }
}

/**
 * Decides or copies blocks along one walk, by what holds at its start: copying takes no fact from anywhere. Returns how
 * many nodes that added, or undefined where there was nothing to do.
 */
function threadOnce(graph: Graph, state: ThreadingState, budget: number): number | undefined {
  const tree = dominance(graph);
  const facts = new FlowFacts(tree);
  const known = new KnownValues({ asVerifier: true });
  // What is decided for all only takes edges away: dominance as it was still holds.
  let decided = false;
  for (const block of tree.order) {
    facts.learn(block);
    const t = block.terminator;
    if (t?.kind !== 'branch' && t?.kind !== 'check') continue;
    const always = outcome(graph, block, undefined, facts, known);
    if (!always) continue;
    setTerminator(block, { kind: 'jump', target: always, place: t.place });
    decided = true;
  }
  if (decided) {
    dropUnreachable(graph);
    return 0;
  }
  let added: number | undefined;
  for (const block of tree.order) {
    const t = block.terminator;
    // what the only way to a block decides is decided for all
    if ((t?.kind !== 'branch' && t?.kind !== 'check') || block.predecessors.length < 2) continue;
    const size = block.nodes.filter((node) => node.kind !== 'phi').length;
    if (size > COPY_LIMIT) continue;
    // Of copies that this walk made it is not known yet whether they go round a loop.
    const ways = block.predecessors.filter((p) => tree.isReachable(p) && !tree.dominates(block, p));
    const targets = new Map(ways.map((p) => [p, outcome(graph, block, p, facts, known)]));
    for (const target of successors(block)) {
      const group = ways.filter((p) => targets.get(p) === target);
      if (group.length === 0 || !mayCopy(block, tree, state)) continue;
      state.rotated.add(block);
      copyFor(graph, block, group, target);
      added = (added ?? 0) + size;
      if (added > budget) break;
    }
    if (added !== undefined && added > budget) break;
  }
  if (added !== undefined) dropUnreachable(graph);
  return added;
}

/** Loop headers are copied once, and only where they decide whether to leave the loop. */
function mayCopy(block: Block, tree: Dominance, state: ThreadingState): boolean {
  const latches = block.predecessors.filter((p) => tree.dominates(block, p));
  if (latches.length === 0) return true;
  return !state.rotated.has(block) && successors(block).some((s) => !latches.some((latch) => reaches(s, latch, block)));
}

/** True where `from` leads to `to` without passing `around`. */
function reaches(from: Block, to: Block, around: Block): boolean {
  const seen = new Set<Block>([around]);
  const pending = [from];
  for (let at = pending.pop(); at; at = pending.pop()) {
    if (at === to) return true;
    if (seen.has(at)) continue;
    seen.add(at);
    pending.push(...successors(at));
  }
  return false;
}

/** Where the block's terminator goes when control comes from `from`, or always; undefined where that is open. */
function outcome(graph: Graph, block: Block, from: Block | undefined, flow: FlowFacts, known: KnownValues): Block | undefined {
  const t = block.terminator;
  const facts = from ? flow.onEdge(from, block) : flow.at(block);
  const at = from ? block.predecessors.indexOf(from) : -1;
  const resolve = (value: Value): Value | undefined => valueOnEdge(graph, value, block, at);
  if (t?.kind === 'branch') {
    if (t.then === t.else) return t.then;
    const left = resolve(t.left);
    const right = resolve(t.right);
    const holds = left && right && decideBranch({ op: t.op, width: t.width, left, right }, facts, known);
    return holds === undefined ? undefined : holds ? t.then : t.else;
  }
  if (t?.kind === 'check') {
    const pointer = resolve(t.pointer);
    const end = resolve(t.end);
    const ok = pointer && end && decideCheck({ pointer, size: t.size, end }, facts);
    return ok === undefined ? undefined : ok ? t.ok : t.fail;
  }
  return undefined;
}

/** What a value of the block is on the edge from its predecessor number `at`; undefined where it is not known before. */
function valueOnEdge(graph: Graph, value: Value, block: Block, at: number): Value | undefined {
  if (value.block !== block || at < 0) return value;
  if (value.kind === 'phi') return value.inputs[at];
  if (value.kind === 'unary') {
    const operand = valueOnEdge(graph, value.operand, block, at);
    const c = operand && constantOf(operand);
    return c === undefined ? undefined : constant(graph, evaluateUnary(value.op, c));
  }
  if (value.kind === 'binary') {
    const left = valueOnEdge(graph, value.left, block, at);
    const right = valueOnEdge(graph, value.right, block, at);
    const [a, b] = [left && constantOf(left), right && constantOf(right)];
    return a === undefined || b === undefined ? undefined : constant(graph, evaluateBinary(value.op, value.width, a, b));
  }
  return undefined;
}

/** Gives a group of predecessors a copy of the block that ends in a jump to `target`. */
function copyFor(graph: Graph, block: Block, group: readonly Block[], target: Block): void {
  const copy = createBlock(graph);
  const copies = new Map<Value, Value>();
  const indices = group.map((p) => block.predecessors.indexOf(p));
  const originals = [...block.nodes];
  for (const node of originals) {
    if (node.kind === 'phi') {
      const inputs = indices.map((i) => node.inputs[i] ?? node);
      copies.set(node, append(copy, createNode(graph, { kind: 'phi', inputs, place: node.place, ...pointerOf(node) })));
    } else copyNode(graph, node, copy, copies);
  }
  const mapped = (value: Value): Value => copies.get(value) ?? value;
  const edge = target.predecessors.indexOf(block);
  const inputs = target.nodes.flatMap((node) => (node.kind === 'phi' ? [mapped(node.inputs[edge] ?? node)] : []));
  for (const p of group) redirect(p, block, copy);
  setTerminator(copy, { kind: 'jump', target, place: block.terminator?.place });
  target.nodes
    .filter((node): node is Phi => node.kind === 'phi')
    .forEach((phi, i) => {
      const input = inputs[i];
      if (input) phi.inputs.push(input);
    });
  const isGone = block.predecessors.length === 0;
  if (isGone) setTerminator(block, undefined);
  const users = blocksThatRead(graph, copies, block);
  for (const [original, value] of copies) {
    const definitions = new Map([[copy, value]]);
    if (!isGone) definitions.set(block, original);
    repairUses(graph, original, { home: block, definitions, users: users.get(original) ?? [] });
  }
}

function copyNode(graph: Graph, node: Exclude<Node, Phi>, copy: Block, copies: Map<Value, Value>): void {
  const made = { ...node, id: graph.nextId++, block: copy };
  mapOperands(made, (value) => copies.get(value) ?? value);
  copy.nodes.push(made);
  if (node.kind !== 'store' && node.kind !== 'atomicAdd' && made.kind !== 'store' && made.kind !== 'atomicAdd') copies.set(node, made);
}
