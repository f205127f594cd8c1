/**
 * The reference: programs run one instruction at a time, on the same memory, maps and helpers as translated ones. It is here
 * to be right, not fast; every access is checked.
 */
import {
  AluCode,
  AtomicCode,
  CALL_OPCODE,
  EndianSource,
  EXIT_OPCODE,
  Helper,
  InstructionClass,
  JumpCode,
  Mode,
  OpcodeMask,
  Source,
} from '@tailrace/bpf';
import { bytesOf, flowOf, isSubprogramCall, type Operation, operationAt, targetOf } from './code.ts';
import { type ContextField, contextFieldAt } from './context.ts';
import type { HelperCaller } from './helper-caller.ts';
import {
  FRAME_LIMIT,
  FRAME_SIZE,
  PACKET_END,
  PACKET_META,
  TAG_CONTEXT,
  TAG_FUNCTION,
  TAG_MAP,
  TAG_PACKET,
  TAG_STACK,
  WORKER_CONTEXT,
  WORKER_PACKET,
  WORKER_STACK,
} from './layout.ts';
import type { Entry, LinkedProgram } from './linked-program.ts';
import { addressOf, pointerTo, tagOf } from './pointer.ts';
import { contextPointer, isInside } from './region.ts';
import { TAIL_CALL_LIMIT } from './tail-call.ts';
import { TrapError, type TrapReason } from './trap.ts';
import type { InterpreterStep } from './worker-context.ts';

/** What an interpreter works on. */
export interface InterpreterParts {
  readonly view: () => DataView;
  /** Start of the worker's area. */
  readonly worker: number;
  readonly programs: readonly LinkedProgram[];
  readonly entry: Entry;
  /** Turns of loops before a run is stopped. */
  readonly turnLimit: number;
  readonly helpers: HelperCaller;
  readonly onStep?: ((step: InterpreterStep) => void) | undefined;
}

interface Frame {
  readonly program: LinkedProgram;
  readonly registers: bigint[];
  readonly depth: number;
}

/** Runs the programs of a chain on the packet that is in the worker's area. */
export class Interpreter {
  readonly #parts: InterpreterParts;
  #turns = 0;
  #tailCalls = 0;

  constructor(parts: InterpreterParts) {
    this.#parts = parts;
  }

  /** Runs from program 0 on, and gives r0 as an unsigned number. Throws TrapError. */
  run(): bigint {
    this.#turns = this.#parts.turnLimit;
    this.#tailCalls = 0;
    return this.#program(0, 0);
  }

  #program(index: number, depth: number): bigint {
    const program = this.#parts.programs[index] as LinkedProgram;
    const registers = this.#registers(depth);
    const { worker, entry } = this.#parts;
    if (entry === 'context') registers[1] = pointerTo(TAG_CONTEXT, worker + WORKER_CONTEXT);
    else {
      const [meta, end] = [PACKET_META, PACKET_END].map((field) => this.#parts.view().getUint32(worker + WORKER_PACKET + field, true)) as [
        number,
        number,
      ];
      registers[1] = meta === end ? 0n : pointerTo(TAG_PACKET, meta);
      registers[2] = BigInt(end - meta);
    }
    return this.#run({ program, registers, depth }, 0);
  }

  /** Runs a subprogram or callback of a program, in the frame below. */
  #subprogram(caller: Frame, start: number, given: readonly bigint[]): bigint {
    const registers = this.#registers(caller.depth + 1);
    for (const [place, value] of given.entries()) registers[place + 1] = value;
    return this.#run({ program: caller.program, registers, depth: caller.depth + 1 }, start);
  }

  #registers(depth: number): bigint[] {
    const registers: bigint[] = new Array(11).fill(0n);
    registers[10] = pointerTo(TAG_STACK + depth, this.#parts.worker + WORKER_STACK + (depth + 1) * FRAME_SIZE);
    return registers;
  }

  #run(frame: Frame, start: number): bigint {
    const { registers, program, depth } = frame;
    const { onStep } = this.#parts;
    for (let pc = start; ; ) {
      onStep?.({ program, start, pc, depth, registers });
      const operation = operationAt(program.code, pc);
      const { opcode, dst } = operation;
      let next = pc + operation.slots;
      switch (opcode & OpcodeMask.class) {
        case InstructionClass.alu:
        case InstructionClass.alu64:
          registers[dst] = compute(operation, registers);
          break;
        case InstructionClass.ld:
          registers[dst] = this.#wide(program, operation);
          break;
        case InstructionClass.ldx:
          registers[dst] = this.#load(frame, operation, pc);
          break;
        case InstructionClass.st:
        case InstructionClass.stx:
          this.#store(frame, operation, pc);
          break;
        default:
          if (opcode === EXIT_OPCODE) return registers[0] as bigint;
          if (isSubprogramCall(operation)) registers[0] = this.#subprogram(frame, pc + 1 + operation.imm, registers.slice(1, 6));
          else if (opcode === CALL_OPCODE) {
            if (operation.imm === Helper.tail_call) {
              const target = this.#tailCall(frame, pc);
              if (target !== undefined) return this.#program(target, frame.depth);
            } else registers[0] = this.#helper(frame, operation.imm, pc);
          } else if (flowOf(operation) === 'jump' || holds(operation, registers)) next = this.#jump(frame, operation, pc);
      }
      pc = next;
    }
  }

  #jump({ program }: Frame, operation: Operation, pc: number): number {
    const target = targetOf(operation, pc);
    if (target <= pc) this.#turn(program, pc);
    return target;
  }

  /** Counts a turn of a loop, and traps at the last one. */
  #turn(program: LinkedProgram, pc: number): void {
    if (--this.#turns === 0) this.#trap(program, 'limit', pc, 0n, 0);
  }

  #wide(program: LinkedProgram, { map, valueOffset, wide, callback }: Operation): bigint {
    if (callback !== undefined) return pointerTo(TAG_FUNCTION, callback);
    const place = map === undefined ? undefined : program.maps.get(map);
    if (place === undefined) return BigInt.asUintN(64, wide ?? 0n);
    return valueOffset === undefined ? pointerTo(TAG_MAP, place.address) : pointerTo(place.tag, place.values + valueOffset);
  }

  // --- memory

  #load({ program, registers }: Frame, operation: Operation, pc: number): bigint {
    const bytes = bytesOf(operation);
    const pointer = plus(registers[operation.src] as bigint, operation.offset);
    const isSigned = (operation.opcode & OpcodeMask.mode) === Mode.memsx;
    const { entry, view, worker } = this.#parts;
    const field = isSigned || entry === 'memory' ? undefined : contextPointer(view(), worker, pointer, bytes);
    if (field !== undefined) return field;
    const value = this.#read(this.#address(program, pointer, bytes, pc, false), bytes);
    return isSigned ? BigInt.asUintN(64, BigInt.asIntN(8 * bytes, value)) : value;
  }

  #store({ program, registers }: Frame, operation: Operation, pc: number): void {
    const bytes = bytesOf(operation);
    const isRegister = (operation.opcode & OpcodeMask.class) === InstructionClass.stx;
    if (isRegister && (operation.opcode & OpcodeMask.mode) === Mode.atomic) return this.#atomic(program, registers, operation, pc);
    const pointer = plus(registers[operation.dst] as bigint, operation.offset);
    const value = isRegister ? (registers[operation.src] as bigint) : BigInt(operation.imm);
    const field = this.#contextField(program, pointer, bytes);
    if (field === undefined) this.#write(this.#address(program, pointer, bytes, pc, true), bytes, value);
    else this.#write(addressOf(pointer), bytes, field.holds < field.size ? BigInt.asUintN(8 * field.holds, value) : value);
  }

  /** The field of the context that a store goes to; undefined where it goes elsewhere, or may not. */
  #contextField({ spec }: LinkedProgram, pointer: bigint, bytes: number): ContextField | undefined {
    const { entry, worker } = this.#parts;
    if (tagOf(pointer) !== TAG_CONTEXT || entry === 'memory') return undefined;
    return contextFieldAt(spec.type, addressOf(pointer) - (worker + WORKER_CONTEXT), bytes, true);
  }

  #atomic(program: LinkedProgram, registers: bigint[], { imm, src, dst, offset, opcode }: Operation, pc: number): void {
    const bytes = bytesOf({ opcode } as Operation);
    const isLoad = imm === AtomicCode.loadAcquire;
    const pointer = plus(registers[isLoad ? src : dst] as bigint, offset);
    const address = this.#address(program, pointer, bytes, pc, !isLoad);
    if (address % bytes !== 0) this.#trap(program, 'alignment', pc, pointer, bytes);
    const old = this.#read(address, bytes);
    const given = registers[src] as bigint;
    if (isLoad) registers[dst] = old;
    else if (imm === AtomicCode.cmpxchg) {
      if (old === BigInt.asUintN(8 * bytes, registers[0] as bigint)) this.#write(address, bytes, given);
      registers[0] = old;
    } else {
      this.#write(address, bytes, combine(imm, old, given));
      if (imm !== AtomicCode.storeRelease && (imm & AtomicCode.fetchAdd) !== 0) registers[src] = old;
    }
  }

  #address(program: LinkedProgram, pointer: bigint, bytes: number, pc: number, isWrite: boolean): number {
    if (!isInside(this.#parts.view(), this.#parts.worker, pointer, bytes, isWrite))
      this.#trap(program, isWrite ? 'write' : 'read', pc, pointer, bytes);
    return addressOf(pointer);
  }

  #read(address: number, bytes: number): bigint {
    const view = this.#parts.view();
    if (bytes === 8) return view.getBigUint64(address, true);
    return BigInt(bytes === 4 ? view.getUint32(address, true) : bytes === 2 ? view.getUint16(address, true) : view.getUint8(address));
  }

  #write(address: number, bytes: number, value: bigint): void {
    const view = this.#parts.view();
    if (bytes === 8) view.setBigUint64(address, BigInt.asUintN(64, value), true);
    else if (bytes === 4) view.setUint32(address, Number(BigInt.asUintN(32, value)), true);
    else if (bytes === 2) view.setUint16(address, Number(BigInt.asUintN(16, value)), true);
    else view.setUint8(address, Number(BigInt.asUintN(8, value)));
  }

  // --- calls

  /** The program that a tail call goes to; undefined where it falls through. */
  #tailCall({ program, registers, depth }: Frame, pc: number): number | undefined {
    const [context, array] = [registers[1] as bigint, registers[2] as bigint];
    const { worker } = this.#parts;
    if (context !== pointerTo(TAG_CONTEXT, worker + WORKER_CONTEXT)) this.#trap(program, 'context', pc, context, 0);
    const place = [...program.maps.values()].find(
      ({ address, spec }) => pointerTo(TAG_MAP, address) === array && spec.type === 'programArray',
    );
    if (place === undefined) this.#trap(program, 'map', pc, array, 0);
    const target = place.slots.get(Number(BigInt.asUintN(32, registers[3] as bigint)));
    if (target === undefined || this.#tailCalls >= TAIL_CALL_LIMIT) return undefined;
    this.#tailCalls++;
    if (depth + (this.#parts.programs[target] as LinkedProgram).frames > FRAME_LIMIT) this.#trap(program, 'depth', pc, 0n, 0);
    return target;
  }

  #helper(frame: Frame, helper: number, pc: number): bigint {
    return this.#parts.helpers.call({
      program: frame.program,
      helper,
      given: frame.registers.slice(1, 6),
      trap: (reason, pointer, bytes) => this.#trap(frame.program, reason, pc, pointer, bytes),
      callback: (start, given) => {
        this.#turn(frame.program, pc);
        return this.#subprogram(frame, start, given);
      },
    });
  }

  #trap({ spec }: LinkedProgram, reason: TrapReason, pc: number, pointer: bigint, bytes: number): never {
    throw new TrapError(spec, { reason, pc, pointer, bytes });
  }
}

function plus(value: bigint, offset: number): bigint {
  return BigInt.asUintN(64, value + BigInt(offset));
}

function combine(imm: number, old: bigint, given: bigint): bigint {
  switch (imm & ~AtomicCode.fetchAdd) {
    case AtomicCode.add:
      return old + given;
    case AtomicCode.or:
      return old | given;
    case AtomicCode.and:
      return old & given;
    case AtomicCode.xor:
      return old ^ given;
    default:
      return given; // xchg, storeRelease
  }
}

// --- arithmetic

function operand({ opcode, src, imm }: Operation, registers: readonly bigint[]): bigint {
  return (opcode & Source.reg) !== 0 ? (registers[src] as bigint) : BigInt.asUintN(64, BigInt(imm));
}

/** What an arithmetic instruction leaves in its `dst`. */
function compute(operation: Operation, registers: readonly bigint[]): bigint {
  const { opcode, dst, offset, imm } = operation;
  const bits = (opcode & OpcodeMask.class) === InstructionClass.alu64 ? 64 : 32;
  const code = opcode & OpcodeMask.code;
  const left = BigInt.asUintN(bits, registers[dst] as bigint);
  if (code === AluCode.end) return swapped(registers[dst] as bigint, imm, bits === 64 || (opcode & Source.reg) === EndianSource.be);
  const right = BigInt.asUintN(bits, operand(operation, registers));
  const shift = right & BigInt(bits - 1);
  const signed = (value: bigint): bigint => BigInt.asIntN(bits, value);
  const result = ((): bigint => {
    switch (code) {
      case AluCode.add:
        return left + right;
      case AluCode.sub:
        return left - right;
      case AluCode.mul:
        return left * right;
      case AluCode.div:
        if (right === 0n) return 0n;
        return offset === 1 ? signed(left) / signed(right) : left / right;
      case AluCode.mod:
        if (right === 0n) return left;
        return offset === 1 ? signed(left) % signed(right) : left % right;
      case AluCode.or:
        return left | right;
      case AluCode.and:
        return left & right;
      case AluCode.xor:
        return left ^ right;
      case AluCode.lsh:
        return left << shift;
      case AluCode.rsh:
        return left >> shift;
      case AluCode.arsh:
        return signed(left) >> shift;
      case AluCode.neg:
        return -left;
      default:
        return offset === 0 ? right : BigInt.asIntN(offset, right); // mov
    }
  })();
  return BigInt.asUintN(bits, result);
}

function swapped(value: bigint, bits: number, swaps: boolean): bigint {
  let rest = BigInt.asUintN(bits, value);
  if (!swaps) return rest;
  let result = 0n;
  for (let i = 0; i < bits; i += 8) {
    result = (result << 8n) | (rest & 0xffn);
    rest >>= 8n;
  }
  return result;
}

/** Whether a branch jumps. */
function holds(operation: Operation, registers: readonly bigint[]): boolean {
  const { opcode, dst } = operation;
  const bits = (opcode & OpcodeMask.class) === InstructionClass.jmp ? 64 : 32;
  const left = BigInt.asUintN(bits, registers[dst] as bigint);
  const right = BigInt.asUintN(bits, operand(operation, registers));
  const [low, high] = [BigInt.asIntN(bits, left), BigInt.asIntN(bits, right)];
  switch (opcode & OpcodeMask.code) {
    case JumpCode.eq:
      return left === right;
    case JumpCode.ne:
      return left !== right;
    case JumpCode.gt:
      return left > right;
    case JumpCode.ge:
      return left >= right;
    case JumpCode.lt:
      return left < right;
    case JumpCode.le:
      return left <= right;
    case JumpCode.set:
      return (left & right) !== 0n;
    case JumpCode.sgt:
      return low > high;
    case JumpCode.sge:
      return low >= high;
    case JumpCode.slt:
      return low < high;
    default:
      return low <= high; // sle
  }
}
