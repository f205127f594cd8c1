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

type Label = number | undefined;

function structured(writer: FunctionWriter, { blocks, entry }: FunctionGraph, emitter: BlockEmitter): void {
  const labels: Label[] = [];
  const block = (id: number): Block => blocks[id] as Block;
  const depthOf = (id: number): number => {
    const place = labels.lastIndexOf(id);
    if (place < 0) throw new TailraceError('compile', `block ${id} is jumped to from where it cannot be reached`);
    return labels.length - 1 - place;
  };
  const inside = (label: Label, open: () => void, write: () => void): void => {
    labels.push(label);
    open();
    write();
    writer.end();
    labels.pop();
  };
  const jump = (from: Block, id: number): void => {
    const to = block(id);
    if (isBackward(from, to)) emitter.backward(from, to);
    if (to.order <= from.order || to.isMerge) writer.br(depthOf(id));
    else tree(to);
  };
  const leave = (from: Block): void => {
    const [behind, target] = from.successors;
    if (behind === undefined) return;
    if (target === undefined || target === behind) return jump(from, behind);
    emitter.condition(from);
    const to = block(target);
    if (to.order > from.order && to.isMerge && !isBackward(from, to)) {
      writer.brIf(depthOf(target));
      return jump(from, behind);
    }
    labels.push(undefined);
    writer.if();
    jump(from, target);
    writer.else();
    jump(from, behind);
    writer.end();
    labels.pop();
  };
  const within = (from: Block, merges: readonly number[]): void => {
    const [outermost, ...rest] = merges;
    if (outermost === undefined) {
      emitter.body(from);
      return leave(from);
    }
    inside(
      outermost,
      () => writer.block(),
      () => within(from, rest),
    );
    tree(block(outermost));
  };
  const tree = (from: Block): void => {
    const merges = from.dominated.filter((id) => block(id).isMerge);
    if (from.isLoop)
      inside(
        from.id,
        () => writer.loop(),
        () => within(from, merges),
      );
    else within(from, merges);
  };
  tree(block(entry));
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
