/**
 * Control-flow graphs: a program's functions as basic blocks in reverse post-order, with dominators, loop headers and
 * merges, as the structurer wants them. Only what can be reached is there.
 */
import { UnsupportedError } from '@tailrace/bpf';
import { type Code, flowOf, namedFunction, operationAt, successorsOf } from './code.ts';
import { dominance, immediateDominators } from './dominators.ts';
import { FRAME_LIMIT } from './layout.ts';

/** BPF_MAX_SUBPROGS (include/linux/bpf_verifier.h). */
const FUNCTION_LIMIT = 256;

/** A basic block: slots `start` up to `end`, the last instruction at `last`. */
export interface Block {
  readonly id: number;
  readonly start: number;
  readonly end: number;
  readonly last: number;
  /** Block ids; of a branch, the one behind it first, then the one it jumps to. */
  readonly successors: readonly number[];
  /** Place in reverse post-order. */
  readonly order: number;
  /** A jump leads back to it. */
  readonly isLoop: boolean;
  /** More than one edge leads on to it. */
  readonly isMerge: boolean;
  /** Blocks that it immediately dominates, the last in order first. */
  readonly dominated: readonly number[];
}

/** One function of a program. */
export interface FunctionGraph {
  /** Slot where it starts. */
  readonly start: number;
  readonly entry: number;
  readonly blocks: readonly Block[];
  /** Block ids in reverse post-order. */
  readonly order: readonly number[];
  /** False where a loop has two ways in, which structured code cannot say. */
  readonly isReducible: boolean;
}

/** The graphs of all functions that a program reaches, the entry point's first. Throws UnsupportedError for calls that nest too deep. */
export function graphsOf(code: Code): readonly FunctionGraph[] {
  const graphs = new Map<number, FunctionGraph>();
  const named = new Map<number, readonly Naming[]>();
  for (const todo = [0]; todo.length > 0; ) {
    const start = todo.pop() as number;
    if (graphs.has(start)) continue;
    const graph = graphOf(code, start);
    const namings = namingsOf(code, graph);
    graphs.set(start, graph);
    if (graphs.size > FUNCTION_LIMIT)
      throw new UnsupportedError(`the program has more than ${FUNCTION_LIMIT} functions`, { hint: 'inline functions' });
    named.set(start, namings);
    todo.push(...namings.map(({ to }) => to));
  }
  framesOf(named);
  return [...graphs.values()].sort((a, b) => a.start - b.start);
}

/** A function is called, or its address is taken, at `pc`. */
export interface Naming {
  readonly pc: number;
  readonly to: number;
}

/** The functions that a function names, in order. */
export function namingsOf(code: Code, { blocks }: FunctionGraph): readonly Naming[] {
  const namings: Naming[] = [];
  for (const { start, end } of blocks)
    for (let pc = start; pc < end; pc += operationAt(code, pc).slots) {
      const to = namedFunction(operationAt(code, pc), pc);
      if (to !== undefined) namings.push({ pc, to });
    }
  return namings;
}

/**
 * How many frames the entry point takes, its own counted, where functions call those that `named` has for them. Throws
 * UnsupportedError where they are more than FRAME_LIMIT, or where a function calls itself: the kernel's rule.
 */
export function framesOf(named: ReadonlyMap<number, readonly Naming[]>): number {
  const known = new Map<number, number>();
  const open = new Set<number>();
  const visit = (start: number, from: number): number => {
    const before = known.get(start);
    if (before !== undefined) return before;
    if (open.has(start)) throw new UnsupportedError(`pc ${from}: a function calls itself`, { hint: 'write a loop' });
    open.add(start);
    let frames = 1;
    for (const { pc, to } of named.get(start) ?? []) {
      frames = Math.max(frames, 1 + visit(to, pc));
      if (frames > FRAME_LIMIT || open.size > FRAME_LIMIT)
        throw new UnsupportedError(`pc ${pc}: calls nest more than ${FRAME_LIMIT} deep`, { hint: 'inline functions' });
    }
    open.delete(start);
    known.set(start, frames);
    return frames;
  };
  return visit(0, 0);
}

/** True where a jump from one block to another leads back: what counts as a turn of a loop, on every engine. */
export function isBackward(from: Block, to: Block): boolean {
  return to.start <= from.last;
}

interface Draft {
  id: number;
  start: number;
  end: number;
  last: number;
  successors: readonly number[];
  order: number;
  isLoop: boolean;
  forward: number;
  dominated: number[];
}

function graphOf(code: Code, start: number): FunctionGraph {
  const blocks = draftBlocks(code, start);
  const entry = blocks.findIndex((block) => block.start === start);
  const order = reversePostOrder(blocks, entry);
  for (const [place, id] of order.entries()) at(blocks, id).order = place;
  const dominators = immediateDominators(
    blocks.map(({ successors }) => successors),
    entry,
  );
  const dominates = dominance(dominators, entry);
  let isReducible = true;
  for (const block of blocks) {
    if (block.id !== entry) at(blocks, dominators[block.id] ?? entry).dominated.push(block.id);
    for (const to of block.successors) {
      const target = at(blocks, to);
      if (target.order > block.order) target.forward++;
      else {
        target.isLoop = true;
        isReducible &&= dominates(to, block.id);
      }
    }
  }
  for (const { dominated } of blocks) dominated.sort((a, b) => at(blocks, b).order - at(blocks, a).order);
  return { start, entry, order, isReducible, blocks: blocks.map(({ forward, ...block }) => ({ ...block, isMerge: forward > 1 })) };
}

function draftBlocks(code: Code, start: number): Draft[] {
  const leaders = new Set([start]);
  const reached = new Set<number>();
  for (const todo = [start]; todo.length > 0; ) {
    const pc = todo.pop() as number;
    if (reached.has(pc)) continue;
    reached.add(pc);
    const successors = successorsOf(code, pc);
    if (flowOf(operationAt(code, pc)) !== 'next') for (const to of successors) leaders.add(to);
    todo.push(...successors);
  }
  const starts = [...leaders].sort((a, b) => a - b);
  const ids = new Map(starts.map((pc, id) => [pc, id]));
  return starts.map((first, id) => {
    let last = first;
    for (;;) {
      const behind = last + operationAt(code, last).slots;
      if (flowOf(operationAt(code, last)) !== 'next' || leaders.has(behind)) break;
      last = behind;
    }
    const successors = successorsOf(code, last).map((pc) => ids.get(pc) as number);
    const end = last + operationAt(code, last).slots;
    return { id, start: first, end, last, successors, order: 0, isLoop: false, forward: 0, dominated: [] };
  });
}

function reversePostOrder(blocks: readonly Draft[], entry: number): number[] {
  const order: number[] = [];
  const seen = new Set([entry]);
  const path = [{ id: entry, next: 0 }];
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    const { successors } = at(blocks, top.id);
    const to = successors[successors.length - 1 - top.next++];
    if (to === undefined) order.push((path.pop() as typeof top).id);
    else if (!seen.has(to)) {
      seen.add(to);
      path.push({ id: to, next: 0 });
    }
  }
  return order.reverse();
}

function at(blocks: readonly Draft[], id: number): Draft {
  return blocks[id] as Draft;
}
