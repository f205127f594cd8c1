/**
 * Control flow for WebAssembly, which has blocks and loops but no jumps. Reducible graphs are structured by recursion over
 * the dominator tree (Ramsey, "Beyond Relooper", 2022): a merge becomes the end of a block, a loop header a loop.
 * Graphs with loops that have two ways in go through a dispatcher: a loop around a table of all blocks.
 */
import { TailraceError } from '@tailrace/bpf';
import { type Block, type FunctionGraph, isBackward } from './control-flow.ts';
import type { FunctionWriter } from './wasm-writer.ts';
import { Op, Type } from './wasm-writer.ts';

/** What the structurer asks of the translator. */
export interface BlockEmitter {
  /** Writes a block's code up to the jump at its end. */
  readonly body: (block: Block) => void;
  /** Leaves an i32 on the stack: not 0 where the branch at the block's end jumps. */
  readonly condition: (block: Block) => void;
  /** Writes what a turn of a loop costs. */
  readonly backward: (from: Block, to: Block) => void;
}

/** Writes a function's control flow. Behind it the code is unreachable. */
export function structure(writer: FunctionWriter, graph: FunctionGraph, emitter: BlockEmitter): void {
  if (graph.isReducible) structured(writer, graph, emitter);
  else dispatched(writer, graph, emitter);
  writer.op(Op.unreachable);
}

/** What is left to write, the next step last: graphs nest deeper than calls of functions may. */
type Step = () => void;

function structured(writer: FunctionWriter, { blocks, entry }: FunctionGraph, emitter: BlockEmitter): void {
  const todo: Step[] = [];
  const next = (...steps: readonly Step[]): void => void todo.push(...steps.toReversed());
  /** Depths of the writer just inside of what blocks are jumped to by. */
  const labels = new Map<number, number>();
  const block = (id: number): Block => blocks[id] as Block;
  const distanceTo = (id: number): number => {
    const depth = labels.get(id);
    if (depth === undefined) throw new TailraceError('compile', `block ${id} is jumped to from where it cannot be reached`);
    return writer.depth - depth;
  };
  const open = (id: number, write: Step): void => {
    write();
    labels.set(id, writer.depth);
  };
  const close = (id: number): void => {
    writer.end();
    labels.delete(id);
  };
  const jump = (from: Block, id: number): void => {
    const to = block(id);
    if (isBackward(from, to)) emitter.backward(from, to);
    if (to.order <= from.order || to.isMerge) writer.br(distanceTo(id));
    else tree(to);
  };
  const leave = (from: Block): void => {
    const [behind, target] = from.successors;
    if (behind === undefined) return;
    if (target === undefined || target === behind) return jump(from, behind);
    emitter.condition(from);
    const to = block(target);
    if (to.order > from.order && to.isMerge && !isBackward(from, to)) {
      writer.brIf(distanceTo(target));
      return jump(from, behind);
    }
    writer.if();
    next(
      () => jump(from, target),
      () => writer.else(),
      () => jump(from, behind),
      () => writer.end(),
    );
  };
  const tree = (from: Block): void => {
    const merges = from.dominated.filter((id) => block(id).isMerge);
    if (from.isLoop) open(from.id, () => writer.loop());
    // the last one in order is the outermost block, and comes last
    for (const id of merges) open(id, () => writer.block());
    emitter.body(from);
    next(
      () => leave(from),
      ...merges.toReversed().flatMap((id) => [() => close(id), () => tree(block(id))]),
      () => (from.isLoop ? close(from.id) : undefined),
    );
  };
  tree(block(entry));
  for (let step = todo.pop(); step !== undefined; step = todo.pop()) step();
}

function dispatched(writer: FunctionWriter, { blocks, order }: FunctionGraph, emitter: BlockEmitter): void {
  const next = writer.local(Type.i32);
  const block = (id: number): Block => blocks[id] as Block;
  writer.i32(0).set(next).loop();
  for (let i = 0; i < order.length; i++) writer.block();
  writer.get(next).brTable(order.map((_, i) => i));
  for (const [place, id] of order.entries()) {
    writer.end();
    const from = block(id);
    emitter.body(from);
    const toLoop = order.length - 1 - place;
    const jump = (target: number, deeper: number): void => {
      const to = block(target);
      if (isBackward(from, to)) emitter.backward(from, to);
      if (to.order === place + 1 && deeper === 0) return;
      writer
        .i32(to.order)
        .set(next)
        .br(toLoop + deeper);
    };
    const [behind, target] = from.successors;
    if (behind === undefined) continue;
    if (target !== undefined && target !== behind) {
      emitter.condition(from);
      writer.if();
      jump(target, 1);
      writer.end();
    }
    jump(behind, 0);
  }
  writer.end();
}
