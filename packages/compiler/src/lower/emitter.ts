/** Emits IR nodes at the current place; knows nothing of paths or of the language. */
import {
  append,
  type BinaryOp,
  type Block,
  createGraph,
  createNode,
  createSlot,
  type Graph,
  type MemorySize,
  type Node,
  type Place,
  type Space,
  type StackSlot,
  type UnaryOp,
  type Value,
} from '../ir.ts';
import { exactly } from '../range.ts';
import type { NumberOperand } from './operand.ts';

/** What a call does beside giving its result; see `Call`. */
export interface CallOptions {
  readonly pure?: boolean;
  readonly movesPacket?: boolean;
  readonly readsStack?: readonly StackSlot[];
  readonly writesStack?: readonly StackSlot[];
  readonly pointer?: Space;
}

export class Emitter {
  readonly graph: Graph;
  /** Undefined where no path leads: what is emitted then is lost. */
  block: Block | undefined;
  place: Place | undefined;

  constructor(name: string) {
    this.graph = createGraph(name);
    this.block = this.graph.entry;
  }

  private add<T extends Node>(node: T): T {
    node.place = this.place;
    return this.block ? append(this.block, node) : node;
  }

  constant(value: bigint | number): Value {
    return this.add(createNode(this.graph, { kind: 'const', value: BigInt.asIntN(64, BigInt(value)) }));
  }

  binary(op: BinaryOp, left: Value, right: Value, width: 32 | 64 = 64): Value {
    return this.add(createNode(this.graph, { kind: 'binary', op, width, left, right }));
  }

  /** `pointer + scalar`. */
  advance(pointer: Value, by: Value, space: Space): Value {
    return this.add(createNode(this.graph, { kind: 'binary', op: 'add', width: 64, left: pointer, right: by, pointer: space }));
  }

  unary(op: UnaryOp, operand: Value): Value {
    return this.add(createNode(this.graph, { kind: 'unary', op, operand }));
  }

  load(size: MemorySize, space: Space, base: Value, offset: number, pointer?: Space): Value {
    return this.add(createNode(this.graph, { kind: 'load', size, space, base, offset, ...(pointer ? { pointer } : {}) }));
  }

  store(size: MemorySize, space: Space, base: Value, offset: number, value: Value): void {
    this.add(createNode(this.graph, { kind: 'store', size, space, base, offset, value }));
  }

  atomicAdd(size: 4 | 8, space: Space, base: Value, offset: number, value: Value): void {
    this.add(createNode(this.graph, { kind: 'atomicAdd', size, space, base, offset, value }));
  }

  slot(size: number): StackSlot {
    return createSlot(this.graph, size);
  }

  stackAddress(slot: StackSlot, offset = 0): Value {
    return this.add(createNode(this.graph, { kind: 'stackAddress', slot, offset }));
  }

  mapHandle(map: string): Value {
    return this.add(createNode(this.graph, { kind: 'map', map }));
  }

  mapValueAddress(map: string): Value {
    return this.add(createNode(this.graph, { kind: 'mapValueAddress', map, offset: 0 }));
  }

  call(helper: number, args: Value[], options: CallOptions = {}): Value {
    const { pure = false, movesPacket = false, readsStack = [], writesStack = [], pointer } = options;
    return this.add(
      createNode(this.graph, {
        kind: 'call',
        helper,
        args,
        pure,
        movesPacket,
        readsStack,
        writesStack,
        ...(pointer ? { pointer } : {}),
      }),
    );
  }

  /** Emits into another block, e.g. at the end of a path that has already been closed. */
  within<T>(block: Block, emit: () => T): T {
    const current = this.block;
    this.block = block;
    try {
      return emit();
    } finally {
      this.block = current;
    }
  }

  /** A number that is known. */
  number(value: number | bigint): NumberOperand {
    return { kind: 'number', range: exactly(BigInt(value)), exact: this.constant(value) };
  }
}
