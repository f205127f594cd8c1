/**
 * One program to WebAssembly functions: registers in locals, control flow by the structurer, accesses checked where nothing
 * proved them. Every function takes and gives 64-bit numbers; r10 comes last, so that each call has a frame of its own.
 */
import { AtomicCode, CALL_OPCODE, EXIT_OPCODE, InstructionClass, OpcodeMask } from '@tailrace/bpf';
import { type Registers, writeArithmetic, writeCondition } from './arithmetic.ts';
import { AccessWriter } from './checked-access.ts';
import { bytesOf, isAtomic, isSignedLoad, isSubprogramCall, type Operation, operationAt } from './code.ts';
import { type ContextField, contextAccess } from './context.ts';
import { contextStore } from './context-store.ts';
import type { Block, FunctionGraph } from './control-flow.ts';
import { writeHelperCall } from './helper-call.ts';
import {
  FRAME_SIZE,
  PACKET_DATA,
  PACKET_END,
  PACKET_META,
  TAG_CONTEXT,
  TAG_FUNCTION,
  TAG_MAP,
  TAG_PACKET,
  WORKER_CONTEXT,
  WORKER_PACKET,
} from './layout.ts';
import type { LinkedProgram } from './linked-program.ts';
import {
  ENTRY_PARAMETERS,
  type FunctionParts,
  type InlinedFunction,
  type ModuleContext,
  RESULT,
  SUBPROGRAM_PARAMETERS,
} from './module-context.ts';
import { pointerTo } from './pointer.ts';
import type { Access, Provenance } from './provenance.ts';
import { structure } from './structure.ts';
import { TileWriter } from './tile-writer.ts';
import { FrameTiles } from './tiles.ts';
import { AtomicOp, FunctionWriter, MemoryOp, Op, Type } from './wasm-writer.ts';

/** Distance from a frame's end to that of the frame it calls: its region is the next one. */
const NEXT_FRAME = (1n << 32n) + BigInt(FRAME_SIZE);

/** Writes all functions of a program; its entry point's number is the one that `context.entries` promises. */
export function translateProgram(context: ModuleContext, program: LinkedProgram, provenance: Provenance): void {
  const functions = numbersOf(context, program);
  for (const [place, graph] of program.graphs.entries()) {
    const writer = new FunctionWriter(place === 0 ? ENTRY_PARAMETERS : SUBPROGRAM_PARAMETERS, RESULT);
    const registers = place === 0 ? entryRegisters(context, writer) : subprogramRegisters(writer);
    writeFunction({ context, program, provenance, functions, writer, registers }, graph);
    context.module.define(functions.get(graph.start) as number, writer);
  }
}

/**
 * Writes a program's entry point into a function that is being written, where `frame` (a local i64) is the end of its frame. The
 * subprograms that it calls are functions of their own.
 */
export function inlineProgram(
  context: ModuleContext,
  program: LinkedProgram,
  provenance: Provenance,
  writer: FunctionWriter,
  { frame, ...inlined }: InlinedFunction & { readonly frame: number },
): void {
  const functions = numbersOf(context, program);
  const [entry, ...subprograms] = program.graphs;
  const registers = [...Array.from({ length: 10 }, () => writer.local(Type.i64)), frame];
  // nothing of the packet before is left
  for (const register of registers.slice(0, 10)) writer.i64(0n).set(register);
  writeEntryRegisters(context, writer, registers);
  writeFunction({ context, program, provenance, functions, writer, registers, inlined }, entry as FunctionGraph);
  for (const graph of subprograms) {
    const own = new FunctionWriter(SUBPROGRAM_PARAMETERS, RESULT);
    writeFunction({ context, program, provenance, functions, writer: own, registers: subprogramRegisters(own) }, graph);
    context.module.define(functions.get(graph.start) as number, own);
  }
}

function writeFunction(parts: Omit<FunctionParts, 'tiles'>, graph: FunctionGraph): void {
  const { program, provenance, writer, registers } = parts;
  const known = FrameTiles.of(program.code, graph, provenance);
  const tiles = known && new TileWriter(writer, known, registers[10] as number);
  new FunctionTranslator({ ...parts, tiles }).write(graph);
}

/** Numbers of a program's functions, by the slots where they start. */
function numbersOf({ entries, module }: ModuleContext, { graphs, index }: LinkedProgram): ReadonlyMap<number, number> {
  return new Map(graphs.map(({ start }, place) => [start, place === 0 ? (entries[index] as number) : module.reserve()]));
}

function entryRegisters(context: ModuleContext, writer: FunctionWriter): Registers {
  const registers = [...Array.from({ length: 10 }, () => writer.local(Type.i64)), 0];
  writeEntryRegisters(context, writer, registers);
  return registers;
}

/** What an entry point is given. */
function writeEntryRegisters({ worker, entry }: ModuleContext, writer: FunctionWriter, registers: Registers): void {
  const first = registers[1] as number;
  if (entry === 'context') writer.i64(pointerTo(TAG_CONTEXT, worker + WORKER_CONTEXT)).set(first);
  else writeMemoryEntry(writer, worker, first, registers[2] as number);
}

/** r1 points to the memory that was given and r2 has its length; both are 0 where there is none. */
function writeMemoryEntry(writer: FunctionWriter, worker: number, pointer: number, length: number): void {
  const packet = worker + WORKER_PACKET;
  writer
    .i32(0)
    .memory(MemoryOp.i64Load32U, packet + PACKET_END)
    .i32(0)
    .memory(MemoryOp.i64Load32U, packet + PACKET_META)
    .op(Op.i64Sub)
    .tee(length);
  writer.op(Op.i64Eqz).if(Type.i64).i64(0n).else();
  writer
    .i32(0)
    .memory(MemoryOp.i64Load32U, packet + PACKET_META)
    .i64(pointerTo(TAG_PACKET, 0))
    .op(Op.i64Or)
    .end()
    .set(pointer);
}

function subprogramRegisters(writer: FunctionWriter): Registers {
  const [r0, r6, r7, r8, r9] = Array.from({ length: 5 }, () => writer.local(Type.i64)) as [number, number, number, number, number];
  return [r0, 0, 1, 2, 3, 4, r6, r7, r8, r9, 5];
}

const LOADS: Readonly<Record<number, number>> = {
  1: MemoryOp.i64Load8U,
  2: MemoryOp.i64Load16U,
  4: MemoryOp.i64Load32U,
  8: MemoryOp.i64Load,
};
const SIGNED_LOADS: Readonly<Record<number, number>> = { 1: MemoryOp.i64Load8S, 2: MemoryOp.i64Load16S, 4: MemoryOp.i64Load32S };
const STORES: Readonly<Record<number, number>> = {
  1: MemoryOp.i64Store8,
  2: MemoryOp.i64Store16,
  4: MemoryOp.i64Store32,
  8: MemoryOp.i64Store,
};

const ORDERED_LOADS: Readonly<Record<number, number>> = {
  1: AtomicOp.i64Load8U,
  2: AtomicOp.i64Load16U,
  4: AtomicOp.i64Load32U,
  8: AtomicOp.i64Load,
};
const ORDERED_STORES: Readonly<Record<number, number>> = {
  1: AtomicOp.i64Store8,
  2: AtomicOp.i64Store16,
  4: AtomicOp.i64Store32,
  8: AtomicOp.i64Store,
};
const CHECKED: Access = { kind: 'checked' };

/** Writes one function. */
class FunctionTranslator extends AccessWriter {
  write(graph: FunctionGraph): void {
    const { writer, registers, program } = this.parts;
    structure(writer, graph, {
      body: (block) => this.#block(block),
      condition: (block) => writeCondition(writer, operationAt(program.code, block.last), registers),
      backward: (from) => this.turn(from.last),
    });
  }

  #block(block: Block): void {
    const { tiles, program } = this.parts;
    tiles?.enter(block);
    for (let pc = block.start; pc < block.end; pc += operationAt(program.code, pc).slots) {
      this.#operation(operationAt(program.code, pc), pc);
      tiles?.leave(pc);
    }
  }

  #operation(operation: Operation, pc: number): void {
    const { writer, registers, functions } = this.parts;
    switch (operation.opcode & OpcodeMask.class) {
      case InstructionClass.alu:
      case InstructionClass.alu64:
        return writeArithmetic(writer, operation, registers);
      case InstructionClass.ld:
        writer.i64(this.#wide(operation)).set(registers[operation.dst] as number);
        return;
      case InstructionClass.ldx:
        return this.#load(operation, pc);
      case InstructionClass.st:
      case InstructionClass.stx:
        return isAtomic(operation) ? this.#atomic(operation, pc) : this.#store(operation, pc);
    }
    if (operation.opcode === EXIT_OPCODE) {
      this.register(0);
      this.leave();
    } else if (isSubprogramCall(operation)) {
      for (let i = 1; i < 6; i++) this.register(i);
      this.register(10).i64(NEXT_FRAME).op(Op.i64Add);
      writer.call(functions.get(pc + 1 + operation.imm) as number).set(registers[0] as number);
    } else if (operation.opcode === CALL_OPCODE) writeHelperCall(this, operation.imm, pc);
  }

  #wide({ map, valueOffset, wide, callback }: Operation): bigint {
    if (callback !== undefined) return pointerTo(TAG_FUNCTION, callback);
    const place = map === undefined ? undefined : this.parts.program.maps.get(map);
    if (place === undefined) return wide ?? 0n;
    return valueOffset === undefined ? pointerTo(TAG_MAP, place.address) : pointerTo(place.tag, place.values + valueOffset);
  }

  /** What was found out about the access at `pc`. */
  #access(pc: number): Access {
    return this.parts.provenance.accesses.get(pc) ?? { kind: 'checked' };
  }

  #load(operation: Operation, pc: number): void {
    const { writer, registers, tiles } = this.parts;
    const { src, offset, dst } = operation;
    if (tiles?.load(pc, isSignedLoad(operation))) return void writer.set(registers[dst] as number);
    const bytes = bytesOf(operation);
    const access = this.#access(pc);
    const op = (isSignedLoad(operation) ? SIGNED_LOADS : LOADS)[bytes] as number;
    switch (access.kind) {
      case 'context':
        this.#contextLoad(this.contextField(access.offset, bytes, false, pc), access.offset, op);
        break;
      case 'proved':
        writer.memory(op, this.addressOf(src, offset, bytes, pc, access, false));
        break;
      case 'packet':
        this.packetTest(src, offset, bytes);
        writer.if(Type.i64).get(this.address).memory(op).else();
        this.#checkedLoad(operation, op, pc);
        writer.end();
        break;
      default:
        this.#checkedLoad(operation, op, pc);
    }
    writer.set(registers[dst] as number);
  }

  /** Leaves what lies where a pointer of any region points to. */
  #checkedLoad(operation: Operation, op: number, pc: number): void {
    const { writer, context } = this.parts;
    const { src, offset } = operation;
    const bytes = bytesOf(operation);
    const load = (): void => void writer.memory(op, this.addressOf(src, offset, bytes, pc, CHECKED, false));
    const pointerBytes = this.parts.program.spec.type === 'skMsg' ? 8 : 4;
    if (bytes !== pointerBytes || isSignedLoad(operation) || context.entry === 'memory') return load();
    // it may be a pointer out of the context
    writer.i32(context.worker);
    this.pointerTo(src, offset).i32(bytes).call(context.module.functionNamed('context_pointer')).tee(this.value);
    writer.op(Op.i64Eqz).if(Type.i64);
    load();
    writer.else().get(this.value).end();
  }

  #contextLoad({ kind }: ContextField, offset: number, op: number): void {
    const { writer, context } = this.parts;
    const packet = context.worker + WORKER_PACKET;
    if (kind === 'scalar') {
      writer.i32(0).memory(op, context.worker + WORKER_CONTEXT + offset);
      return;
    }
    const ends = this.parts.inlined?.ends;
    if (ends && kind !== 'dataMeta') {
      writer
        .get(kind === 'data' ? ends.data : ends.end)
        .op(Op.extendU)
        .i64(pointerTo(TAG_PACKET, 0))
        .op(Op.i64Or);
      return;
    }
    const at = kind === 'data' ? PACKET_DATA : kind === 'dataEnd' ? PACKET_END : PACKET_META;
    writer
      .i32(0)
      .memory(MemoryOp.i64Load32U, packet + at)
      .i64(pointerTo(TAG_PACKET, 0))
      .op(Op.i64Or);
  }

  /** The field of the context that an access meets. Throws EncodingError where programs of this type have none. */
  contextField(offset: number, bytes: number, isWrite: boolean, pc: number): ContextField {
    return contextAccess(this.parts.program.spec, offset, bytes, isWrite, pc);
  }

  #store(operation: Operation, pc: number): void {
    const { writer, tiles } = this.parts;
    const value = (): void => {
      if ((operation.opcode & OpcodeMask.class) === InstructionClass.st) writer.i64(BigInt(operation.imm));
      else this.register(operation.src);
    };
    this.#storeToMemory(operation, value, pc);
    tiles?.store(pc, value);
  }

  #storeToMemory(operation: Operation, value: () => void, pc: number): void {
    const { writer, context } = this.parts;
    const bytes = bytesOf(operation);
    const access = this.#access(pc);
    const op = STORES[bytes] as number;
    if (access.kind === 'context') {
      const { holds, size } = this.contextField(access.offset, bytes, true, pc);
      writer.i32(0);
      value();
      // where the kernel's own field is shorter, the rest is not kept
      if (holds < size) writer.i64((1n << BigInt(8 * holds)) - 1n).op(Op.i64And);
      writer.memory(op, context.worker + WORKER_CONTEXT + access.offset);
      return;
    }
    if (access.kind === 'proved') {
      const offset = this.addressOf(operation.dst, operation.offset, bytes, pc, access, true);
      value();
      writer.memory(op, offset);
      return;
    }
    if (access.kind !== 'packet') return this.#checkedStore(operation, value, op, pc);
    this.packetTest(operation.dst, operation.offset, bytes);
    writer.if().get(this.address);
    value();
    writer.memory(op).else();
    this.#checkedStore(operation, value, op, pc);
    writer.end();
  }

  /** Stores where a pointer of any region points to. */
  #checkedStore(operation: Operation, value: () => void, op: number, pc: number): void {
    const { writer, context, program } = this.parts;
    const bytes = bytesOf(operation);
    this.pointerTo(operation.dst, operation.offset).set(this.pointer);
    this.region(bytes, true);
    writer.op(Op.i32Eqz).if();
    const store = contextStore(context, program.spec.type, bytes);
    const refuse = (): void => this.trap('write', pc, () => writer.get(this.pointer), bytes);
    if (store === undefined) {
      refuse();
      writer.end();
    } else {
      writer.get(this.pointer);
      value();
      writer.call(store).op(Op.i32Eqz).if();
      refuse();
      writer.end().else();
    }
    writer.get(this.address);
    value();
    writer.memory(op);
    if (store !== undefined) writer.end();
  }

  // --- atomics

  #atomic(operation: Operation, pc: number): void {
    const { writer, registers, context } = this.parts;
    const bytes = bytesOf(operation);
    const access = this.#access(pc);
    const { imm, src, dst } = operation;
    if (imm === AtomicCode.loadAcquire) {
      this.#aligned(src, operation.offset, bytes, pc, access, false);
      writer.get(this.address);
      if (context.isShared) writer.atomic(ORDERED_LOADS[bytes] as number, bytes);
      else writer.memory(LOADS[bytes] as number);
      writer.set(registers[dst] as number);
      return;
    }
    this.#aligned(dst, operation.offset, bytes, pc, access, true);
    if (imm === AtomicCode.storeRelease) {
      writer.get(this.address);
      this.register(src);
      if (context.isShared) writer.atomic(ORDERED_STORES[bytes] as number, bytes);
      else writer.memory(STORES[bytes] as number);
      return;
    }
    const wide = bytes as 4 | 8;
    if (context.isShared) this.#sharedAtomic(operation, wide);
    else this.#plainAtomic(operation, wide);
  }

  /** Leaves the address in `address`, where it is a multiple of the size. */
  #aligned(register: number, offset: number, bytes: number, pc: number, access: Access, isWrite: boolean): void {
    const { writer } = this.parts;
    const more = this.addressOf(register, offset, bytes, pc, access, isWrite);
    if (more !== 0) writer.i32(more).op(Op.i32Add);
    writer.tee(this.address);
    if (bytes === 1) return void writer.op(Op.drop);
    writer
      .i32(bytes - 1)
      .op(Op.i32And)
      .if();
    this.trap('alignment', pc, () => this.pointerTo(register, offset), bytes);
    writer.end();
  }

  /** With one worker nobody is in between. */
  #plainAtomic({ imm, src }: Operation, bytes: 4 | 8): void {
    const { writer, registers } = this.parts;
    const [load, store] = [LOADS[bytes] as number, STORES[bytes] as number];
    const old = this.value;
    writer.get(this.address).memory(load).set(old);
    if (imm === AtomicCode.cmpxchg) {
      writer.get(old);
      this.register(0);
      if (bytes === 4) writer.i64(0xffff_ffffn).op(Op.i64And);
      writer.op(Op.i64Eq).if().get(this.address);
      this.register(src);
      writer
        .memory(store)
        .end()
        .get(old)
        .set(registers[0] as number);
      return;
    }
    writer.get(this.address);
    if (imm === AtomicCode.xchg) this.register(src);
    else {
      writer.get(old);
      this.register(src).op(combination(imm));
    }
    writer.memory(store);
    if ((imm & AtomicCode.fetchAdd) !== 0) writer.get(old).set(registers[src] as number);
  }

  #sharedAtomic({ imm, src }: Operation, bytes: 4 | 8): void {
    const { writer, registers } = this.parts;
    writer.get(this.address);
    if (imm === AtomicCode.cmpxchg) {
      this.register(0);
      if (bytes === 4) writer.i64(0xffff_ffffn).op(Op.i64And);
      this.register(src);
      writer.atomic(bytes === 8 ? AtomicOp.i64RmwCmpxchg : AtomicOp.i64Rmw32CmpxchgU, bytes).set(registers[0] as number);
      return;
    }
    this.register(src);
    const [wide, narrow] = SHARED[imm & ~AtomicCode.fetchAdd] as readonly [number, number];
    writer.atomic(bytes === 8 ? wide : narrow, bytes);
    if ((imm & AtomicCode.fetchAdd) !== 0) writer.set(registers[src] as number);
    else writer.op(Op.drop);
  }
}

const SHARED: Readonly<Record<number, readonly [wide: number, narrow: number]>> = {
  [AtomicCode.add]: [AtomicOp.i64RmwAdd, AtomicOp.i64Rmw32AddU],
  [AtomicCode.or]: [AtomicOp.i64RmwOr, AtomicOp.i64Rmw32OrU],
  [AtomicCode.and]: [AtomicOp.i64RmwAnd, AtomicOp.i64Rmw32AndU],
  [AtomicCode.xor]: [AtomicOp.i64RmwXor, AtomicOp.i64Rmw32XorU],
  [AtomicCode.xchg & ~AtomicCode.fetchAdd]: [AtomicOp.i64RmwXchg, AtomicOp.i64Rmw32XchgU],
};

function combination(imm: number): number {
  switch (imm & ~AtomicCode.fetchAdd) {
    case AtomicCode.add:
      return Op.i64Add;
    case AtomicCode.or:
      return Op.i64Or;
    case AtomicCode.and:
      return Op.i64And;
    default:
      return Op.i64Xor;
  }
}
