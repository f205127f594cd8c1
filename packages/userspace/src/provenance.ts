/**
 * Where pointers come from: an abstract interpreter over a program that finds which accesses are surely inside of what they
 * touch, so that the translator need not check them. It only ever removes checks: not knowing costs time, never safety.
 * One pass a function; what arrives in a subprogram is joined over its calls. A program that takes more than STEP_LIMIT
 * steps is given up, and everything in it checked.
 */
import {
  AluCode,
  AtomicCode,
  CALL_OPCODE,
  CallPseudo,
  Helper,
  InstructionClass,
  isMapOfMaps,
  JumpCode,
  type MapSpec,
  Mode,
  OpcodeMask,
  Size,
  Source,
} from '@tailrace/bpf';
import { type AbstractValue, ANY, constant, join, NO_ID, PACKET, START, same, UINT32, upTo } from './abstract-value.ts';
import { type Code, flowOf, isSubprogramCall, type Operation, operationAt } from './code.ts';
import type { Block, FunctionGraph } from './control-flow.ts';
import { FRAME_SIZE, TAG_FUNCTION } from './layout.ts';
import type { Entry } from './linked-program.ts';

const STEP_LIMIT = 400_000;
/** Visits of a block from which on joins widen. */
const WIDEN_AFTER = 3;
/** A number that may be added to a packet pointer without losing its place: half of what addresses leave to spare. */
const MAX_MOVE = 0xffff;

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
  /** The argument (1 to 5) whose memory a helper writes, and how many bytes where that is known. */
  readonly writes: (helper: number) => readonly number[];
}

interface State {
  readonly registers: AbstractValue[];
  /** Own stack slots of 8 bytes whose content is known, by offset from the frame's end. */
  readonly stack: Map<number, AbstractValue>;
  /** Bytes that are there behind what an id stands for. */
  readonly ranges: Map<number, number>;
  /** A pointer to this frame may lie in memory. */
  escaped: boolean;
}

/** Analyses a program. */
export function provenanceOf(code: Code, graphs: readonly FunctionGraph[], surroundings: Surroundings): Provenance {
  return new Analysis(code, graphs, surroundings).run();
}

class Analysis {
  readonly #code: Code;
  readonly #graphs: ReadonlyMap<number, FunctionGraph>;
  readonly #surroundings: Surroundings;
  readonly #entry: number;
  /** What arrives in each function's r1 to r5. */
  readonly #arguments = new Map<number, readonly AbstractValue[]>();
  /** Functions that may move the packet, themselves or by what they call. */
  readonly #moving: ReadonlySet<number>;
  readonly #callbacks: ReadonlySet<number>;
  #steps = 0;
  #queue: number[] = [];

  constructor(code: Code, graphs: readonly FunctionGraph[], surroundings: Surroundings) {
    this.#code = code;
    this.#graphs = new Map(graphs.map((graph) => [graph.start, graph]));
    this.#entry = graphs[0]?.start ?? 0;
    this.#surroundings = surroundings;
    this.#moving = movingFunctions(code, graphs, surroundings.movesPacket);
    this.#callbacks = new Set(code.flatMap((operation) => (operation?.callback === undefined ? [] : [operation.callback])));
  }

  run(): Provenance {
    const accesses = new Map<number, Access>();
    const calls = new Map<number, readonly AbstractValue[]>();
    const first: AbstractValue = this.#surroundings.entry === 'context' ? { kind: 'context', offset: 0 } : ANY;
    this.#arguments.set(this.#entry, [first, ANY, ANY, ANY, ANY]);
    this.#queue = [this.#entry];
    for (const start of this.#callbacks) {
      this.#arguments.set(start, [ANY, ANY, ANY, ANY, ANY]);
      this.#queue.push(start);
    }
    for (let start = this.#queue.shift(); start !== undefined; start = this.#queue.shift()) {
      if (this.#solve(start) === undefined) return { accesses: new Map(), calls: new Map(), steps: this.#steps };
    }
    for (const [start, graph] of this.#graphs) {
      if (!this.#arguments.has(start)) continue;
      const states = this.#solve(start);
      if (states === undefined) return { accesses: new Map(), calls: new Map(), steps: this.#steps };
      for (const block of graph.blocks) {
        const state = states[block.id];
        if (state) this.#record(start, block, copyOf(state), accesses, calls);
      }
    }
    return { accesses, calls, steps: this.#steps };
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
      escaped: false,
    };
    const dirty = new Set([graph.entry]);
    while (dirty.size > 0)
      for (const id of graph.order) {
        if (!dirty.delete(id)) continue;
        const block = graph.blocks[id] as Block;
        visits[id] = (visits[id] ?? 0) + 1;
        const state = copyOf(states[id] as State);
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

  #record(start: number, block: Block, state: State, accesses: Map<number, Access>, calls: Map<number, readonly AbstractValue[]>): void {
    for (let pc = block.start; pc < block.end; pc += operationAt(this.#code, pc).slots) {
      const operation = operationAt(this.#code, pc);
      const kind = operation.opcode & OpcodeMask.class;
      const isLoad = kind === InstructionClass.ldx;
      if (isLoad || kind === InstructionClass.st || kind === InstructionClass.stx) {
        const isAcquire = isAtomic(operation) && operation.imm === AtomicCode.loadAcquire;
        const pointer = register(state, isLoad || isAcquire ? operation.src : operation.dst);
        const access = this.#access(state, pointer, operation.offset, bytesOf(operation));
        const before = accesses.get(pc);
        accesses.set(pc, before === undefined ? access : worse(before, access));
      }
      if (operation.opcode === CALL_OPCODE && operation.src === CallPseudo.helper) {
        const given = state.registers.slice(1, 6);
        const before = calls.get(pc);
        calls.set(pc, before === undefined ? given : given.map((value, i) => join(before[i] ?? ANY, value, false)));
      }
      this.#step(state, pc, start);
    }
  }

  #access(state: State, pointer: AbstractValue, offset: number, size: number): Access {
    switch (pointer.kind) {
      case 'context':
        return { kind: 'context', offset: pointer.offset + offset };
      case 'packet': {
        if (pointer.id === undefined) return PACKET_ACCESS;
        const at = pointer.offset + offset;
        return at >= 0 && at + size <= (state.ranges.get(pointer.id) ?? 0) ? PROVED : PACKET_ACCESS;
      }
      case 'frame': {
        const at = (pointer.offset ?? 0) + offset;
        return pointer.offset !== undefined && at >= -FRAME_SIZE && at + size <= 0 ? PROVED : CHECKED;
      }
      case 'value': {
        const at = pointer.offset + offset;
        return !pointer.maybeNull && at >= 0 && at + pointer.spread + size <= pointer.bytes ? PROVED : CHECKED;
      }
      default:
        return CHECKED;
    }
  }

  // --- one instruction

  #step(state: State, pc: number, start: number): void {
    const operation = operationAt(this.#code, pc);
    switch (operation.opcode & OpcodeMask.class) {
      case InstructionClass.ld:
        return write(state, operation.dst, this.#wide(operation));
      case InstructionClass.ldx:
        return write(state, operation.dst, this.#loaded(state, operation, start));
      case InstructionClass.st:
      case InstructionClass.stx:
        return isAtomic(operation) ? this.#atomic(state, operation, start) : this.#stored(state, operation, start);
      case InstructionClass.alu:
      case InstructionClass.alu64:
        return this.#computed(state, operation, pc);
      default:
        if (isSubprogramCall(operation)) this.#called(state, pc + 1 + operation.imm);
        else if (operation.opcode === CALL_OPCODE) this.#helped(state, operation.imm, pc);
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
    if (pointer.kind === 'context') {
      const field = this.#surroundings.contextField(pointer.offset + operation.offset, size);
      if (field === 'data') return { kind: 'packet', id: START, offset: 0 };
      if (field === 'dataEnd') return { kind: 'packetEnd' };
      if (field === 'dataMeta') return PACKET;
    }
    if (pointer.kind === 'frame' && pointer.owner === start && pointer.offset !== undefined && size === 8) {
      const known = state.stack.get(pointer.offset + operation.offset);
      if (known) return known;
    }
    const isSigned = (operation.opcode & OpcodeMask.mode) === Mode.memsx;
    return size === 8 || isSigned ? ANY : upTo(2 ** (8 * size) - 1);
  }

  #stored(state: State, operation: Operation, start: number): void {
    const size = bytesOf(operation);
    const isRegister = (operation.opcode & OpcodeMask.class) === InstructionClass.stx;
    const value = isRegister ? register(state, operation.src) : constant(BigInt(operation.imm));
    this.#overwritten(state, register(state, operation.dst), operation.offset, size, start);
    if (size < 8) return;
    const pointer = register(state, operation.dst);
    if (mayPointToFrame(value)) state.escaped = true;
    if (pointer.kind === 'frame' && pointer.owner === start && pointer.offset !== undefined)
      state.stack.set(pointer.offset + operation.offset, value);
  }

  #atomic(state: State, operation: Operation, start: number): void {
    const size = bytesOf(operation);
    if (operation.imm === AtomicCode.loadAcquire) return write(state, operation.dst, size === 8 ? ANY : upTo(2 ** (8 * size) - 1));
    if (mayPointToFrame(register(state, operation.src))) state.escaped = true;
    this.#overwritten(state, register(state, operation.dst), operation.offset, size, start);
    if (operation.imm === AtomicCode.storeRelease) return;
    if (operation.imm === AtomicCode.cmpxchg) write(state, 0, ANY);
    else if ((operation.imm & AtomicCode.fetchAdd) !== 0) write(state, operation.src, ANY);
  }

  /** Own stack slots that a store may have changed are not known any more. */
  #overwritten(state: State, pointer: AbstractValue, offset: number, size: number, start: number): void {
    if (pointer.kind === 'frame' && pointer.offset !== undefined) {
      // a caller's frame is not this one
      if (pointer.owner !== start) return;
      const at = pointer.offset + offset;
      for (let slot = at - 7; slot < at + size; slot++) state.stack.delete(slot);
    } else if (mayPointToFrame(pointer)) state.stack.clear();
  }

  #called(state: State, callee: number): void {
    const given = state.registers.slice(1, 6).map((value) => (value.kind === 'packet' && value.id !== START ? PACKET : value));
    const known = this.#arguments.get(callee);
    const joined = known ? known.map((value, i) => join(value, given[i] ?? ANY, true)) : given;
    if (known === undefined || joined.some((value, i) => !same(value, known[i] ?? ANY))) {
      this.#arguments.set(callee, joined);
      this.#queue.push(callee);
    }
    if (state.escaped || state.registers.slice(1, 6).some(mayPointToFrame)) {
      state.stack.clear();
      state.escaped = true;
    }
    if (this.#moving.has(callee)) packetMoved(state);
    for (let i = 0; i < 6; i++) write(state, i, ANY);
  }

  #helped(state: State, helper: number, pc: number): void {
    const [first, second] = [register(state, 1), register(state, 2)];
    const result = this.#answer(helper, first, second, pc);
    // an answer of an earlier turn is not this one; a record that is handed over is nobody's
    each(state, (value) => (isAnswer(value) && value.id === pc ? { ...value, id: NO_ID } : value));
    if (helper === Helper.ringbuf_submit || helper === Helper.ringbuf_discard)
      each(state, (value) => (value.kind === 'value' && value.spec.type === 'ringBuffer' ? ANY : value));
    if (this.#surroundings.writes(helper).some((argument) => mayPointToFrame(register(state, argument)))) state.stack.clear();
    // callbacks may do what they like with what they are given
    if (helper === Helper.loop || helper === Helper.for_each_map_elem) {
      state.stack.clear();
      if (this.#moving.size > 0) packetMoved(state);
    }
    if (this.#surroundings.movesPacket(helper)) packetMoved(state);
    write(state, 0, result);
    for (let i = 1; i < 6; i++) write(state, i, ANY);
  }

  #answer(helper: number, first: AbstractValue, second: AbstractValue, pc: number): AbstractValue {
    if (helper === Helper.map_lookup_elem || helper === Helper.map_lookup_percpu_elem) {
      if (first.kind !== 'map') return ANY;
      const { spec } = first;
      if (isMapOfMaps(spec.type)) return spec.inner ? { kind: 'map', spec: spec.inner, name: undefined, maybeNull: true, id: pc } : ANY;
      return { kind: 'value', spec, bytes: spec.valueSize, offset: 0, spread: 0, maybeNull: true, id: pc };
    }
    if (helper === Helper.ringbuf_reserve && first.kind === 'map' && second.kind === 'number' && second.constant !== undefined)
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
    write(state, dst, is64 ? this.#wideResult(state, operation, left, right, pc) : narrowed(numberResult(operation, left, right)));
  }

  #wideResult(state: State, operation: Operation, left: AbstractValue, right: AbstractValue, pc: number): AbstractValue {
    const code = operation.opcode & OpcodeMask.code;
    if (code === AluCode.mov) return operation.offset === 0 ? right : ANY;
    if (code !== AluCode.add && code !== AluCode.sub) return numberResult(operation, left, right);
    if (left.kind === 'number' && right.kind === 'number') return numberResult(operation, left, right);
    if (code === AluCode.add && left.kind === 'number') return this.#moved(state, right, left, 1, pc);
    if (right.kind === 'number') return this.#moved(state, left, right, code === AluCode.add ? 1 : -1, pc);
    return ANY;
  }

  /** A pointer that a number is added to, or taken from. */
  #moved(state: State, pointer: AbstractValue, by: AbstractValue, sign: 1 | -1, pc: number): AbstractValue {
    if (by.kind !== 'number') return ANY;
    if (by.constant !== undefined) {
      const distance = sign * Number(BigInt.asIntN(64, by.constant));
      if (Math.abs(distance) > MAX_MOVE * 0x4000) return ANY;
      if (pointer.kind === 'packet' || pointer.kind === 'context') return { ...pointer, offset: pointer.offset + distance };
      if (pointer.kind === 'value') return pointer.maybeNull ? ANY : { ...pointer, offset: pointer.offset + distance };
      if (pointer.kind === 'frame') return { ...pointer, offset: pointer.offset === undefined ? undefined : pointer.offset + distance };
      return ANY;
    }
    if (pointer.kind === 'frame') return { ...pointer, offset: undefined };
    if (sign === -1) return pointer.kind === 'packet' ? PACKET : ANY;
    if (pointer.kind === 'packet') {
      if (pointer.id === undefined || by.max > MAX_MOVE) return PACKET;
      forgetId(state, pc);
      return { kind: 'packet', id: pc, offset: pointer.offset };
    }
    if (pointer.kind === 'value' && !pointer.maybeNull && by.max <= UINT32) return { ...pointer, spread: pointer.spread + by.max };
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

/** Learns from a branch: `here` is the state where it does not jump. */
function refine(here: State, taken: State, operation: Operation): void {
  const code = operation.opcode & OpcodeMask.code;
  const is64 = (operation.opcode & OpcodeMask.class) === InstructionClass.jmp;
  const { dst } = operation;
  const left = register(here, dst);
  const right = (operation.opcode & Source.reg) !== 0 ? register(here, operation.src) : constant(BigInt(operation.imm));
  if (is64) {
    // pointer <= end: there are as many bytes as it is on
    if (left.kind === 'packet' && right.kind === 'packetEnd') {
      if (code === JumpCode.gt || code === JumpCode.ge) inRange(here, left);
      if (code === JumpCode.lt || code === JumpCode.le) inRange(taken, left);
    }
    if (left.kind === 'packetEnd' && right.kind === 'packet') {
      if (code === JumpCode.lt || code === JumpCode.le) inRange(here, right);
      if (code === JumpCode.gt || code === JumpCode.ge) inRange(taken, right);
    }
    if ((left.kind === 'value' || left.kind === 'map') && left.maybeNull && right.kind === 'number' && right.constant === 0n) {
      const [present, absent] = code === JumpCode.eq ? [here, taken] : code === JumpCode.ne ? [taken, here] : [];
      if (present && absent) decideNull(left, present, absent);
    }
  }
  if (left.kind !== 'number' || right.kind !== 'number' || right.constant === undefined) return;
  if (!is64 && left.max > UINT32) return;
  const bound = is64 ? right.constant : BigInt.asUintN(32, right.constant);
  if (bound > BigInt(Number.MAX_SAFE_INTEGER)) return;
  const limit = Number(bound);
  const atMost = (state: State, max: number): void => {
    if (max >= 0 && max < left.max) write(state, dst, upTo(max));
  };
  if (code === JumpCode.gt) atMost(here, limit);
  if (code === JumpCode.ge) atMost(here, limit - 1);
  if (code === JumpCode.lt) atMost(taken, limit - 1);
  if (code === JumpCode.le) atMost(taken, limit);
  if (code === JumpCode.eq) write(taken, dst, constant(bound));
  if (code === JumpCode.ne) write(here, dst, constant(bound));
  // where the sign is 0 on both sides, signed comparisons are unsigned ones
  if (limit >= 2 ** 31 || left.max >= 2 ** 31) return;
  if (code === JumpCode.sgt) atMost(here, limit);
  if (code === JumpCode.sge) atMost(here, limit - 1);
  if (code === JumpCode.slt) atMost(taken, limit - 1);
  if (code === JumpCode.sle) atMost(taken, limit);
}

function inRange(state: State, { id, offset }: Extract<AbstractValue, { kind: 'packet' }>): void {
  if (id !== undefined && offset > (state.ranges.get(id) ?? 0)) state.ranges.set(id, offset);
}

type Answer = Extract<AbstractValue, { kind: 'value' | 'map' }>;

function isAnswer(value: AbstractValue): value is Answer {
  return value.kind === 'value' || value.kind === 'map';
}

function decideNull(answer: Answer, present: State, absent: State): void {
  const isCopy = (value: AbstractValue): value is Answer =>
    isAnswer(value) && value.id === answer.id && answer.id !== NO_ID && value.maybeNull;
  each(present, (value) => (isCopy(value) ? { ...value, maybeNull: false } : value));
  each(absent, (value) => (isCopy(value) ? constant(0n) : value));
}

/** Bounds of arithmetic on numbers. */
function numberResult(operation: Operation, left: AbstractValue, right: AbstractValue): AbstractValue {
  const code = operation.opcode & OpcodeMask.code;
  const is64 = (operation.opcode & OpcodeMask.class) === InstructionClass.alu64;
  if (code === AluCode.end) return operation.imm === 64 ? ANY : upTo(2 ** operation.imm - 1);
  if (code === AluCode.neg) return ANY;
  const bits = is64 ? 64 : 32;
  const operand = (value: AbstractValue) => (is64 ? value : narrowed(value));
  const [a, b] = [operand(left), operand(right)];
  if (code === AluCode.mov) return operation.offset === 0 ? b : ANY;
  if (a.kind !== 'number' || b.kind !== 'number') return code === AluCode.and ? upTo(Math.min(maxOf(a), maxOf(b))) : ANY;
  if (a.constant !== undefined && b.constant !== undefined) {
    const folded = fold(code, a.constant, b.constant, bits);
    if (folded !== undefined) return constant(BigInt.asUintN(bits, folded));
  }
  switch (code) {
    case AluCode.add:
      return upTo(a.max + b.max);
    case AluCode.mul:
      return upTo(a.max * b.max);
    case AluCode.and:
      return upTo(Math.min(a.max, b.max));
    case AluCode.or:
    case AluCode.xor:
      return upTo(allOnes(Math.max(a.max, b.max)));
    case AluCode.lsh:
      return b.constant === undefined ? ANY : upTo(a.max * 2 ** Number(b.constant & BigInt(bits - 1)));
    case AluCode.rsh: {
      if (b.constant === undefined) return upTo(a.max);
      const by = Number(b.constant & BigInt(bits - 1));
      return upTo(a.max === Number.POSITIVE_INFINITY ? 2 ** (64 - by) - 1 : Math.floor(a.max / 2 ** by));
    }
    case AluCode.div:
      return operation.offset === 0 ? upTo(a.max) : ANY;
    case AluCode.mod:
      // by zero the dividend stays
      return operation.offset === 0
        ? upTo(b.constant === undefined || b.constant === 0n ? a.max : Math.min(a.max, Number(b.constant) - 1))
        : ANY;
    default:
      return ANY;
  }
}

function fold(code: number, a: bigint, b: bigint, bits: number): bigint | undefined {
  switch (code) {
    case AluCode.add:
      return a + b;
    case AluCode.sub:
      return a - b;
    case AluCode.and:
      return a & b;
    case AluCode.or:
      return a | b;
    case AluCode.lsh:
      return a << (b & BigInt(bits - 1));
    default:
      return undefined;
  }
}

/** What 32-bit arithmetic leaves of a value. */
function narrowed(value: AbstractValue): AbstractValue {
  if (value.kind !== 'number') return upTo(UINT32);
  if (value.constant !== undefined) return constant(BigInt.asUintN(32, value.constant));
  return value.max <= UINT32 ? value : upTo(UINT32);
}

function allOnes(max: number): number {
  return max === Number.POSITIVE_INFINITY ? max : 2 ** Math.ceil(Math.log2(max + 1)) - 1;
}

function maxOf(value: AbstractValue): number {
  return value.kind === 'number' ? value.max : Number.POSITIVE_INFINITY;
}

// --- states

function register(state: State, index: number): AbstractValue {
  return state.registers[index] ?? ANY;
}

function write(state: State, index: number, value: AbstractValue): void {
  state.registers[index] = value;
}

function copyOf({ registers, stack, ranges, escaped }: State): State {
  return { registers: [...registers], stack: new Map(stack), ranges: new Map(ranges), escaped };
}

function each(state: State, change: (value: AbstractValue) => AbstractValue): void {
  for (const [index, value] of state.registers.entries()) state.registers[index] = change(value);
  for (const [slot, value] of state.stack) state.stack.set(slot, change(value));
}

/** Joins what comes into what is known at the start of a block; true where that changed. */
function mergeInto(known: State, coming: State, block: number, widen: boolean): boolean {
  let changed = false;
  /** Bytes behind pointers that get an id of this place, by id. */
  const here = new Map<number, number>();
  for (const [index, value] of known.registers.entries()) {
    const other = register(coming, index);
    const met = joinPackets(known, coming, value, other, placeId(block, index));
    if (met) here.set(met.pointer.id, met.bytes);
    const joined = met?.pointer ?? join(value, other, widen);
    if (same(joined, value)) continue;
    known.registers[index] = joined;
    changed = true;
  }
  for (const [slot, value] of known.stack) {
    const other = coming.stack.get(slot);
    const joined = other && join(value, other, widen);
    if (joined && same(joined, value)) continue;
    if (joined) known.stack.set(slot, joined);
    else known.stack.delete(slot);
    changed = true;
  }
  for (const [id, bytes] of [...known.ranges]) {
    if (here.has(id)) continue;
    const other = coming.ranges.get(id) ?? 0;
    if (other >= bytes) continue;
    if (other > 0) known.ranges.set(id, other);
    else known.ranges.delete(id);
    changed = true;
  }
  for (const [id, bytes] of here) {
    if (known.ranges.get(id) === bytes) continue;
    known.ranges.set(id, bytes);
    changed = true;
  }
  if (coming.escaped && !known.escaped) {
    known.escaped = true;
    changed = true;
  }
  return changed;
}

/** The id of what a register holds where paths meet that left different places of the packet in it. */
function placeId(block: number, index: number): number {
  return 0x100_0000 + block * 16 + index;
}

/**
 * Two pointers into the packet, from two paths, that are not the same: one with an id of its own, behind which there are as
 * many bytes as behind the one that has fewer. Where nothing was left of the packet's start on either path, none.
 */
function joinPackets(
  known: State,
  coming: State,
  a: AbstractValue,
  b: AbstractValue,
  id: number,
): { readonly pointer: AbstractValue & { readonly id: number }; readonly bytes: number } | undefined {
  if (a.kind !== 'packet' || b.kind !== 'packet' || a.id === undefined || b.id === undefined) return undefined;
  if (a.id !== id && same(a, b)) return undefined;
  if (a.offset < 0 || b.offset < 0) return undefined;
  const left = (state: State, { id: of, offset }: { readonly id: number; readonly offset: number }): number =>
    Math.max(0, (state.ranges.get(of) ?? 0) - offset);
  const bytes = Math.min(left(known, { id: a.id, offset: a.offset }), left(coming, { id: b.id, offset: b.offset }));
  return { pointer: { kind: 'packet', id, offset: 0 }, bytes };
}

/** An instruction is going to give an id a new meaning: pointers with the old one are somewhere in the packet. */
function forgetId(state: State, id: number): void {
  each(state, (value) => (value.kind === 'packet' && value.id === id ? PACKET : value));
  state.ranges.delete(id);
}

/** Pointers into the packet are stale. */
function packetMoved(state: State): void {
  each(state, (value) => (value.kind === 'packet' ? PACKET : value.kind === 'packetEnd' ? ANY : value));
  state.ranges.clear();
}

/** May an access through this pointer meet a stack frame? */
function mayPointToFrame(value: AbstractValue): boolean {
  return value.kind === 'frame' || (value.kind === 'number' && value.max > UINT32);
}

function isAtomic({ opcode }: Operation): boolean {
  return (opcode & OpcodeMask.class) === InstructionClass.stx && (opcode & OpcodeMask.mode) === Mode.atomic;
}

const BYTES: Readonly<Record<number, number>> = { [Size.w]: 4, [Size.h]: 2, [Size.b]: 1, [Size.dw]: 8 };

/** Bytes that a load, store or atomic touches. */
export function bytesOf({ opcode }: Operation): 1 | 2 | 4 | 8 {
  return BYTES[opcode & OpcodeMask.size] as 1 | 2 | 4 | 8;
}

/** True for instructions that write memory. */
export function storesTo(operation: Operation): boolean {
  const kind = operation.opcode & OpcodeMask.class;
  return (
    kind === InstructionClass.st || (kind === InstructionClass.stx && !(isAtomic(operation) && operation.imm === AtomicCode.loadAcquire))
  );
}

function movingFunctions(code: Code, graphs: readonly FunctionGraph[], movesPacket: (helper: number) => boolean): ReadonlySet<number> {
  const moving = new Set<number>();
  for (let changed = true; changed; ) {
    changed = false;
    for (const { start, blocks } of graphs) {
      if (moving.has(start)) continue;
      const moves = blocks.some((block) => {
        for (let pc = block.start; pc < block.end; pc += operationAt(code, pc).slots) {
          const operation = operationAt(code, pc);
          if (isSubprogramCall(operation) && moving.has(pc + 1 + operation.imm)) return true;
          // a tail call hands the packet to who knows what, and may come back
          if (
            operation.opcode === CALL_OPCODE &&
            operation.src === CallPseudo.helper &&
            (movesPacket(operation.imm) || operation.imm === Helper.tail_call)
          )
            return true;
          if (operation.callback !== undefined && moving.has(operation.callback)) return true;
        }
        return false;
      });
      if (!moves) continue;
      moving.add(start);
      changed = true;
    }
  }
  return moving;
}
