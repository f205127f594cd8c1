/** From an optimised graph to instructions: select, allocate, place the stack, order the blocks, encode. */
import type { Instruction, LineInfo, MapReference } from '@tailrace/bpf';
import type { Graph } from '../ir.ts';
import { allocate } from './allocate.ts';
import { encodeFunction } from './encode.ts';
import { forwardSpills } from './forward.ts';
import { layout } from './layout.ts';
import { select } from './select.ts';
import { placeSlots } from './stack.ts';

/** One function as an engine takes it. */
export interface EmittedProgram {
  readonly instructions: Instruction[];
  readonly mapReferences: MapReference[];
  /** Empty where no node has a place; else the first is at slot 0. */
  readonly lines: LineInfo[];
  /** Bytes below the frame pointer that the program uses. */
  readonly stackSize: number;
  /** Values that found no register for all of their life. */
  readonly spills: number;
}

/**
 * Emits a graph, which stays as it is. Throws StackError where more than 512 bytes of stack are needed, and
 * EncodingError where a jump spans more than 32,767 slots.
 */
export function emit(graph: Graph): EmittedProgram {
  const fn = select(graph);
  const spills = allocate(fn);
  if (spills > 0) forwardSpills(fn);
  const stack = placeSlots(fn, graph.name);
  layout(fn);
  return { ...encodeFunction(fn, stack), stackSize: stack.size, spills };
}
