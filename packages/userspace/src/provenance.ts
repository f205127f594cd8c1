/**
 * Where pointers come from: an abstract interpreter over a program that finds which accesses are surely inside of what they
 * touch, so that the translator need not check them. It only ever removes checks: not knowing costs time, never safety.
 * One pass a function; what arrives in a subprogram is joined over its calls. A program that takes more than STEP_LIMIT
 * steps is given up, and everything in it checked.
 */
import { AluCode, AtomicCode, Helper, InstructionClass, isMapOfMaps, type MapSpec, OpcodeMask, Source } from '@tailrace/bpf';
import { numberResult } from './abstract-arithmetic.ts';
import { copyOf, each, forgetSlots, isAnswer, mergeInto, packetMoved, refine, register, type State, write } from './abstract-state.ts';
import { type AbstractValue, ANY, constant, join, NO_ID, PACKET, START, same, UINT32, upTo } from './abstract-value.ts';
import {
  bytesOf,
  type Code,
  flowOf,
  isAtomic,
  isHelperCall,
  isRegisterCall,
  isSignedLoad,
  isSubprogramCall,
  type Operation,
  operationAt,
  pointerRegister,
  storesTo,
} from './code.ts';
import type { Block, FunctionGraph } from './control-flow.ts';
import { callsBack, type Effects, effectsOf } from './effects.ts';
import { type FrameAccesses, type FrameRange, isInFrame, WHOLE_FRAME } from './frame-access.ts';
import { TAG_FUNCTION } from './layout.ts';
import type { Entry } from './linked-program.ts';
import { moved } from './pointer-move.ts';
import { valueAccess } from './value-access.ts';

/** Instructions that are looked at, each as often as something new is known in front of it. */
const STEP_LIMIT = 400_000;
/** Visits of a block from which on joins widen. */
const WIDEN_AFTER = 3;
/** How an access is made safe. */
export type Access =
  /** It is inside, on every path. */
  | { readonly kind: 'proved' }
  /** A pointer field or other field of the context, by its offset. */
  | { readonly kind: 'context'; readonly offset: number }
  | { readonly kind: 'packet' }
  | { readonly kind: 'checked' };

/** What was found out about a program. */
export interface Provenance {
  /** By pc of loads, stores and atomics; what is missing is checked. */
  readonly accesses: ReadonlyMap<number, Access>;
  /** By pc of helper calls: r1 to r5 as they arrive. */
  readonly calls: ReadonlyMap<number, readonly AbstractValue[]>;
  /** By the slot where a function starts: how it gets at its own frame. What is missing gets at it in every way. */
  readonly frames: ReadonlyMap<number, FrameAccesses>;
  /** By pc of calls of helpers by register: what is in it. */
  readonly calledByRegister: ReadonlyMap<number, AbstractValue>;
  /** False where the program was given up. */
  readonly isComplete: boolean;
  readonly steps: number;
}

/** What the analyser has to know of the program's surroundings. */
export interface Surroundings {
  /** Maps by the program's names. */
  readonly maps: ReadonlyMap<string, MapSpec>;
  readonly entry: Entry;
  /** What a load of that size at that place of the context gives. */
  readonly contextField: (offset: number, size: number) => 'data' | 'dataEnd' | 'dataMeta' | 'scalar' | undefined;
  /** Whether a helper moves the packet, so that pointers into it are stale. */
  readonly movesPacket: (helper: number) => boolean;
  /** The memory that a helper writes, called with these values in r1 to r5. */
  readonly writes: (helper: number, given: readonly AbstractValue[]) => readonly WrittenMemory[];
}

/** Memory that a helper writes: `bytes` from where the argument (1 to 5) points to; undefined: as many as there may be. */
export interface WrittenMemory {
  readonly argument: number;
  readonly bytes: number | undefined;
}

/** Analyses a program. `onState` is told what is known in front of each instruction: what tests hold runs to. */
export function provenanceOf(code: Code, graphs: readonly FunctionGraph[], surroundings: Surroundings, onState?: OnState): Provenance {
  return new Analysis(code, graphs, surroundings).run(onState);
}

/** Is told the state in front of the instruction at `pc`, in the function that starts at `start`. */
export type OnState = (start: number, pc: number, state: State) => void;

/** The same program with no access proved, as far as it can be run: callbacks, and the maps that they go through, are still told. */
export function withoutProofs(provenance: Provenance): Provenance {
  const isConstant = (value: AbstractValue | undefined): boolean => value?.kind === 'number' && value.constant !== undefined;
  const calls = [...provenance.calls].map(([pc, given]) => {
    const [first = ANY, ...others] = given.map((value) => (isConstant(value) ? value : ANY));
    return [pc, [isConstant(given[1]) ? (given[0] ?? first) : first, ...others]] as const;
  });
  return { ...provenance, accesses: new Map(), frames: new Map(), calls: new Map(calls) };
}

interface RecordedFrame {
  readonly places: Map<number, number>;
  readonly writes: Map<number, FrameRange>;
}

interface Found {
  readonly accesses: Map<number, Access>;
  readonly calls: Map<number, readonly AbstractValue[]>;
  readonly frames: Map<number, RecordedFrame>;
  readonly calledByRegister: Map<number, AbstractValue>;
}

class Analysis {
  readonly #code: Code;
  readonly #graphs: ReadonlyMap<number, FunctionGraph>;
  readonly #surroundings: Surroundings;
  readonly #entry: number;
  readonly #effects: Effects;
  /** What arrives in each function's r1 to r5. */
  readonly #arguments = new Map<number, readonly AbstractValue[]>();
  /** Functions that write by pointers which may be anything: into frames of their callers too. */
  readonly #wild = new Set<number>();
  readonly #queue = new Set<number>();
  #steps = 0;

  constructor(code: Code, graphs: readonly FunctionGraph[], surroundings: Surroundings) {
    this.#code = code;
    this.#graphs = new Map(graphs.map((graph) => [graph.start, graph]));
    this.#entry = graphs[0]?.start ?? 0;
    this.#surroundings = surroundings;
    this.#effects = effectsOf(code, graphs, surroundings.movesPacket);
  }

  run(onState?: OnState): Provenance {
    const found: Found = { accesses: new Map(), calls: new Map(), frames: new Map(), calledByRegister: new Map() };
    const first: AbstractValue = this.#surroundings.entry === 'context' ? { kind: 'context', offset: 0 } : ANY;
    this.#arguments.set(this.#entry, [first, ANY, ANY, ANY, ANY]);
    this.#queue.add(this.#entry);
    for (const start of this.#effects.callbacks) {
      this.#arguments.set(start, [ANY, ANY, ANY, ANY, ANY]);
      this.#queue.add(start);
    }
    // a Set can grow while it is walked, also by what was taken out
    for (const start of this.#queue) {
      this.#queue.delete(start);
      if (this.#solve(start) === undefined) return this.#givenUp();
    }
    for (const [start, graph] of this.#graphs) {
      if (!this.#arguments.has(start)) continue;
      const states = this.#solve(start);
      if (states === undefined) return this.#givenUp();
      found.frames.set(start, { places: new Map(), writes: new Map() });
      for (const block of graph.blocks) {
        const state = states[block.id];
        if (state) this.#record(start, block, copyOf(state), found, onState);
      }
    }
    return { ...found, isComplete: true, steps: this.#steps };
  }

  #givenUp(): Provenance {
    return { accesses: new Map(), calls: new Map(), frames: new Map(), calledByRegister: new Map(), isComplete: false, steps: this.#steps };
  }

  /** The state at the start of each block of a function; undefined where the step limit is reached. */
  #solve(start: number): readonly (State | undefined)[] | undefined {
    const graph = this.#graphs.get(start) as FunctionGraph;
    const states: (State | undefined)[] = graph.blocks.map(() => undefined);
    const visits = graph.blocks.map(() => 0);
    states[graph.entry] = {
      registers: [ANY, ...(this.#arguments.get(start) ?? []), ANY, ANY, ANY, ANY, { kind: 'frame', owner: start, offset: 0 }],
      stack: new Map(),
      ranges: new Map(),
    };
    const dirty = new Set([graph.entry]);
    while (dirty.size > 0)
      for (const id of graph.order) {
        if (!dirty.delete(id)) continue;
        const block = graph.blocks[id] as Block;
        visits[id] = (visits[id] ?? 0) + 1;
        const state = copyOf(states[id] as State);
        // what is copied takes its time too
        this.#steps += (state.stack.size + state.ranges.size) >> 3;
        for (let pc = block.start; pc < block.end; pc += operationAt(this.#code, pc).slots) {
          if (++this.#steps > STEP_LIMIT) return undefined;
          this.#step(state, pc, start);
        }
        const outs = this.#outcomes(state, block);
        for (const [place, to] of block.successors.entries()) {
          const out = outs[place] as State;
          const known = states[to];
          if (known === undefined) states[to] = copyOf(out);
          else if (!mergeInto(known, out, to, (visits[to] ?? 0) >= WIDEN_AFTER)) continue;
          dirty.add(to);
        }
      }
    return states;
  }

  #record(start: number, block: Block, state: State, found: Found, onState?: OnState): void {
    const { accesses, calls, frames, calledByRegister } = found;
    const { places, writes } = frames.get(start) as RecordedFrame;
    for (let pc = block.start; pc < block.end; pc += operationAt(this.#code, pc).slots) {
      onState?.(start, pc, copyOf(state));
      const operation = operationAt(this.#code, pc);
      const pointer = pointerRegister(operation);
      if (pointer !== undefined) {
        const access = this.#access(state, register(state, pointer), operation);
        const before = accesses.get(pc);
        accesses.set(pc, before === undefined ? access : worse(before, access));
      }
      const place = isAtomic(operation) ? undefined : ownPlace(state, operation, start);
      const written = this.#written(state, operation, pc, start);
      if (place !== undefined) places.set(pc, place);
      else if (written) writes.set(pc, written);
      if (isHelperCall(operation)) {
        const given = state.registers.slice(1, 6);
        const before = calls.get(pc);
        calls.set(pc, before === undefined ? given : given.map((value, i) => join(before[i] ?? ANY, value, false)));
      }
      if (isRegisterCall(operation)) {
        const called = register(state, operation.dst);
        calledByRegister.set(pc, join(calledByRegister.get(pc) ?? called, called, false));
      }
      this.#step(state, pc, start);
    }
  }

  #access(state: State, pointer: AbstractValue, operation: Operation): Access {
    const { offset } = operation;
    const size = bytesOf(operation);
    switch (pointer.kind) {
      case 'context':
        return { kind: 'context', offset: pointer.offset + offset };
      case 'packet': {
        if (pointer.id === undefined) return PACKET_ACCESS;
        const at = pointer.offset + offset;
        return at >= 0 && at + size <= (state.ranges.get(pointer.id) ?? 0) ? PROVED : PACKET_ACCESS;
      }
      case 'frame':
        return isInFrame(pointer, offset, size) ? PROVED : CHECKED;
      case 'value':
        return isInValue(pointer, offset, size, storesTo(operation)) ? PROVED : CHECKED;
      default:
        return CHECKED;
    }
  }

  // --- one instruction

  #step(state: State, pc: number, start: number): void {
    const operation = operationAt(this.#code, pc);
    const written = this.#written(state, operation, pc, start);
    if (written) forgetSlots(state, written);
    switch (operation.opcode & OpcodeMask.class) {
      case InstructionClass.ld:
        return write(state, operation.dst, this.#wide(operation));
      case InstructionClass.ldx:
        return write(state, operation.dst, this.#loaded(state, operation, start));
      case InstructionClass.st:
      case InstructionClass.stx:
        return isAtomic(operation) ? this.#atomic(state, operation) : this.#stored(state, operation, start);
      case InstructionClass.alu:
      case InstructionClass.alu64:
        return this.#computed(state, operation, pc);
      default:
        if (isSubprogramCall(operation)) this.#called(state, pc + 1 + operation.imm);
        else if (isHelperCall(operation)) this.#helped(state, operation.imm, pc);
        else if (isRegisterCall(operation)) this.#calledAnything(state);
    }
  }

  #wide({ map, valueOffset, wide, callback }: Operation): AbstractValue {
    if (callback !== undefined) return constant((BigInt(TAG_FUNCTION) << 32n) | BigInt(callback));
    if (map === undefined) return wide === undefined ? ANY : constant(wide);
    const spec = this.#surroundings.maps.get(map);
    if (spec === undefined) return ANY;
    if (valueOffset === undefined) return { kind: 'map', spec, name: map, maybeNull: false, id: NO_ID };
    return { kind: 'value', spec, bytes: spec.valueSize, offset: valueOffset, spread: 0, maybeNull: false, id: NO_ID };
  }

  #loaded(state: State, operation: Operation, start: number): AbstractValue {
    const size = bytesOf(operation);
    const pointer = register(state, operation.src);
    const isSigned = isSignedLoad(operation);
    if (isSigned) return ANY;
    const number = size === 8 ? ANY : upTo(2 ** (8 * size) - 1);
    if (pointer.kind === 'context') {
      const field = this.#surroundings.contextField(pointer.offset + operation.offset, size);
      if (field === 'data') return { kind: 'packet', id: START, offset: 0 };
      if (field === 'dataEnd') return { kind: 'packetEnd' };
      if (field === 'dataMeta') return PACKET;
      return field === 'scalar' ? number : ANY;
    }
    if (pointer.kind === 'frame' && pointer.owner === start && pointer.offset !== undefined && size === 8) {
      const known = state.stack.get(pointer.offset + operation.offset);
      if (known) return known;
    }
    // by what may be a pointer to the context a load of four bytes may give a pointer
    return size === 4 && isWild(pointer) && this.#access(state, pointer, operation).kind !== 'proved' ? ANY : number;
  }

  #stored(state: State, operation: Operation, start: number): void {
    const isRegister = (operation.opcode & OpcodeMask.class) === InstructionClass.stx;
    const value = isRegister ? register(state, operation.src) : constant(BigInt(operation.imm));
    const place = ownPlace(state, operation, start);
    if (place !== undefined && bytesOf(operation) === 8) state.stack.set(place, value);
  }

  #atomic(state: State, operation: Operation): void {
    const size = bytesOf(operation);
    if (operation.imm === AtomicCode.loadAcquire) return write(state, operation.dst, size === 8 ? ANY : upTo(2 ** (8 * size) - 1));
    if (operation.imm === AtomicCode.storeRelease) return;
    if (operation.imm === AtomicCode.cmpxchg) write(state, 0, ANY);
    else if ((operation.imm & AtomicCode.fetchAdd) !== 0) write(state, operation.src, ANY);
  }

  // --- what is written of a function's own frame

  /** What an instruction may write of the frame of the function that it is in. */
  #written(state: State, operation: Operation, pc: number, start: number): FrameRange | undefined {
    if (isSubprogramCall(operation)) {
      const isPassed = state.registers.slice(1, 6).some((value) => value.kind === 'frame' && value.owner === start);
      return this.#isWrittenBy([pc + 1 + operation.imm], start) || isPassed ? WHOLE_FRAME : undefined;
    }
    if (isHelperCall(operation)) return this.#writtenByHelper(state, operation.imm, start);
    if (isRegisterCall(operation)) return this.#wildly(start);
    if (!storesTo(operation)) return undefined;
    const pointer = register(state, operation.dst);
    if (pointer.kind === 'frame' && pointer.offset !== undefined) return rangeOf(pointer, operation.offset, bytesOf(operation), start);
    return isWild(pointer) && this.#access(state, pointer, operation).kind !== 'proved' ? this.#wildly(start) : undefined;
  }

  #writtenByHelper(state: State, helper: number, start: number): FrameRange | undefined {
    let all: FrameRange | undefined;
    for (const { argument, bytes } of this.#surroundings.writes(helper, state.registers.slice(1, 6))) {
      const pointer = register(state, argument);
      const range = isWild(pointer) ? this.#wildly(start) : pointer.kind === 'frame' ? rangeOf(pointer, 0, bytes, start) : undefined;
      if (range) all = all ? WHOLE_FRAME : range;
    }
    // what callbacks are given is not told here: whoever writes by it writes by a pointer that may be anything
    return callsBack(helper) && this.#isWrittenBy([...this.#effects.callbacks], start) ? WHOLE_FRAME : all;
  }

  /** Whether functions that are called write by pointers which may be anything. */
  #isWrittenBy(callees: readonly number[], start: number): boolean {
    const { leaves, reach } = this.#effects;
    if (callees.some((callee) => leaves.has(callee))) {
      this.#wildly(start);
      return true;
    }
    return callees.some((callee) => [...(reach.get(callee) ?? [])].some((reached) => this.#wild.has(reached)));
  }

  /** A function writes, and nobody knows where: into its own frame, or into one of its callers. */
  #wildly(start: number): FrameRange {
    if (this.#wild.has(start)) return WHOLE_FRAME;
    this.#wild.add(start);
    for (const [caller, reached] of this.#effects.reach)
      if (caller !== start && reached.has(start) && this.#arguments.has(caller)) this.#queue.add(caller);
    return WHOLE_FRAME;
  }

  // --- calls

  #called(state: State, callee: number): void {
    const passed = state.registers.slice(1, 6);
    const given = passed.map((value) => (value.kind === 'packet' && value.id !== START ? PACKET : value));
    const known = this.#arguments.get(callee);
    const joined = known ? known.map((value, i) => join(value, given[i] ?? ANY, true)) : given;
    if (known === undefined || joined.some((value, i) => !same(value, known[i] ?? ANY))) {
      this.#arguments.set(callee, joined);
      this.#queue.add(callee);
    }
    const { closes, moves } = this.#effects;
    if (closes.has(callee)) recordsClosed(state);
    if (moves.has(callee)) packetMoved(state);
    for (let i = 0; i < 6; i++) write(state, i, ANY);
  }

  /** A helper that is not known. */
  #calledAnything(state: State): void {
    recordsClosed(state);
    packetMoved(state);
    for (let i = 0; i < 6; i++) write(state, i, ANY);
  }

  #helped(state: State, helper: number, pc: number): void {
    const [first, second] = [register(state, 1), register(state, 2)];
    const result = this.#answer(helper, first, second, pc);
    // an answer of an earlier turn is not this one; a record that is handed over is nobody's
    each(state, (value) => (isAnswer(value) && value.id === pc ? { ...value, id: NO_ID } : value));
    if (helper === Helper.ringbuf_submit || helper === Helper.ringbuf_discard) recordsClosed(state);
    if (callsBack(helper)) this.#calledBack(state);
    if (this.#surroundings.movesPacket(helper)) packetMoved(state);
    write(state, 0, result);
    for (let i = 1; i < 6; i++) write(state, i, ANY);
  }

  #calledBack(state: State): void {
    const { callbacks, closes, moves } = this.#effects;
    if ([...callbacks].some((start) => closes.has(start))) recordsClosed(state);
    if ([...callbacks].some((start) => moves.has(start))) packetMoved(state);
  }

  #answer(helper: number, first: AbstractValue, second: AbstractValue, pc: number): AbstractValue {
    if (helper === Helper.map_lookup_elem || helper === Helper.map_lookup_percpu_elem) {
      if (first.kind !== 'map') return ANY;
      const { spec } = first;
      if (isMapOfMaps(spec.type)) return spec.inner ? { kind: 'map', spec: spec.inner, name: undefined, maybeNull: true, id: pc } : ANY;
      return { kind: 'value', spec, bytes: spec.valueSize, offset: 0, spread: 0, maybeNull: true, id: pc };
    }
    if (helper === Helper.ringbuf_reserve && first.kind === 'map' && first.spec.type === 'ringBuffer')
      if (second.kind === 'number' && second.constant !== undefined && second.max <= UINT32)
        return { kind: 'value', spec: first.spec, bytes: second.max, offset: 0, spread: 0, maybeNull: true, id: pc };
    return ANY;
  }

  // --- arithmetic

  #computed(state: State, operation: Operation, pc: number): void {
    const { dst, opcode } = operation;
    const is64 = (opcode & OpcodeMask.class) === InstructionClass.alu64;
    const left = register(state, dst);
    const right =
      (opcode & Source.reg) !== 0 && (opcode & OpcodeMask.code) !== AluCode.end
        ? register(state, operation.src)
        : constant(BigInt(operation.imm));
    write(state, dst, is64 ? this.#wideResult(state, operation, left, right, pc) : numberResult(operation, left, right));
  }

  #wideResult(state: State, operation: Operation, left: AbstractValue, right: AbstractValue, pc: number): AbstractValue {
    const code = operation.opcode & OpcodeMask.code;
    if (code === AluCode.mov) return operation.offset === 0 ? right : ANY;
    if (code !== AluCode.add && code !== AluCode.sub) return numberResult(operation, left, right);
    if (left.kind === 'number' && right.kind === 'number') return numberResult(operation, left, right);
    if (code === AluCode.add && left.kind === 'number') return moved(state, right, left, 1, pc);
    if (right.kind === 'number') return moved(state, left, right, code === AluCode.add ? 1 : -1, pc);
    return ANY;
  }

  // --- branches

  /** The states behind a block, by its successors. */
  #outcomes(state: State, block: Block): readonly State[] {
    const operation = operationAt(this.#code, block.last);
    if (flowOf(operation) !== 'branch') return block.successors.map(() => state);
    const taken = copyOf(state);
    refine(state, taken, operation);
    return [state, taken];
  }
}

const PROVED: Access = { kind: 'proved' };
const PACKET_ACCESS: Access = { kind: 'packet' };
const CHECKED: Access = { kind: 'checked' };

function worse(a: Access, b: Access): Access {
  if (a.kind === b.kind && (a.kind !== 'context' || (b.kind === 'context' && a.offset === b.offset))) return a;
  return CHECKED;
}

/** Where in the frame of its function a load or store touches memory, from the frame's end; undefined where that is not known or not inside. */
function ownPlace(state: State, operation: Operation, start: number): number | undefined {
  const index = pointerRegister(operation);
  const pointer = index === undefined ? ANY : register(state, index);
  if (pointer.kind !== 'frame' || pointer.owner !== start || !isInFrame(pointer, operation.offset, bytesOf(operation))) return undefined;
  return (pointer.offset ?? 0) + operation.offset;
}

/** What is written of a frame by a pointer into one; undefined where that is another one. */
function rangeOf(
  pointer: Extract<AbstractValue, { kind: 'frame' }>,
  offset: number,
  bytes: number | undefined,
  start: number,
): FrameRange | undefined {
  if (pointer.owner !== start) return undefined;
  if (pointer.offset === undefined || bytes === undefined) return WHOLE_FRAME;
  return { from: pointer.offset + offset, to: pointer.offset + offset + bytes };
}

/** Whether so many bytes are inside of the value that a pointer points to, and may be read or written. */
export function isInValue(pointer: Extract<AbstractValue, { kind: 'value' }>, offset: number, bytes: number, isWrite: boolean): boolean {
  const access = pointer.spec.type === 'ringBuffer' ? 'write' : valueAccess(pointer.spec);
  if (pointer.maybeNull || access === undefined || (isWrite && access === 'read')) return false;
  const at = pointer.offset + offset;
  return at >= 0 && at + pointer.spread + bytes <= pointer.bytes;
}

/** Records that are handed over are not there any more; which ones these are is not told. */
function recordsClosed(state: State): void {
  each(state, (value) => (value.kind === 'value' && value.spec.type === 'ringBuffer' ? ANY : value));
}

/** May a pointer point into any region? Programs can make up whatever they like, and go from one region to the next. */
function isWild(value: AbstractValue): boolean {
  return (
    (value.kind === 'number' && value.max > UINT32) || (value.kind === 'frame' && value.offset === undefined) || value.kind === 'packet'
  );
}
