/** Accesses of translated code: addresses that were proved inside, or are checked here, and traps where they are not. */
import { PACKET_END, PACKET_META, TAG_PACKET, WORKER_PACKET } from './layout.ts';
import type { FunctionParts } from './module-context.ts';
import { pointerTo } from './pointer.ts';
import type { Access } from './provenance.ts';
import { TrapReason } from './trap.ts';
import { type FunctionWriter, MemoryOp, Op, Type } from './wasm-writer.ts';

/** Writes accesses into one function. */
export class AccessWriter {
  readonly parts: FunctionParts;
  /** Locals for addresses and pointers that are being checked. */
  readonly address: number;
  readonly pointer: number;
  protected readonly value: number;
  readonly #length: number;

  constructor(parts: FunctionParts) {
    this.parts = parts;
    this.address = parts.writer.local(Type.i32);
    this.pointer = parts.writer.local(Type.i64);
    this.value = parts.writer.local(Type.i64);
    this.#length = parts.writer.local(Type.i64);
  }

  /** Register `index` on the stack. */
  register(index: number): FunctionWriter {
    return this.parts.writer.get(this.parts.registers[index] as number);
  }

  /** Ends the function with the result on the stack. */
  leave(): void {
    const { writer, inlined } = this.parts;
    if (inlined === undefined) return void writer.op(Op.return);
    writer.set(inlined.result).br(writer.depth - inlined.depth);
  }

  /** Ends the function by another one, whose arguments are on the stack. */
  leaveBy(fn: number): void {
    if (this.parts.inlined === undefined) return void this.parts.writer.returnCall(fn);
    this.parts.writer.call(fn);
    this.leave();
  }

  /** Leaves a trap behind and traps; `pointer` puts the pointer on the stack. */
  trap(reason: TrapReason, pc: number, pointer: () => void, bytes: number | (() => void)): void {
    const { writer, context, program } = this.parts;
    pointer();
    if (typeof bytes === 'number') writer.i32(bytes);
    else bytes();
    writer.i32(TrapReason[reason]).i32(program.index).i32(pc).call(context.trap).op(Op.unreachable);
  }

  /**
   * Leaves the address of `register + offset` on the stack, checked unless it is proved, and returns the static offset that the
   * load or store has to add.
   */
  addressOf(register: number, offset: number, bytes: number, pc: number, access: Access, isWrite: boolean): number {
    const { writer } = this.parts;
    if (access.kind === 'proved') {
      this.register(register).op(Op.wrap);
      if (offset >= 0) return offset;
      writer.i32(offset).op(Op.i32Add);
      return 0;
    }
    this.pointerTo(register, offset).set(this.pointer);
    this.region(bytes, isWrite);
    writer.op(Op.i32Eqz).if();
    this.trap(isWrite ? 'write' : 'read', pc, () => writer.get(this.pointer), bytes);
    writer.end().get(this.address);
    return 0;
  }

  /** `register + offset` on the stack. */
  pointerTo(register: number, offset: number): FunctionWriter {
    const { writer } = this.parts;
    this.register(register);
    return offset === 0 ? writer : writer.i64(BigInt(offset)).op(Op.i64Add);
  }

  /** Looks `pointer` up in its region: leaves its address in `address` and on the stack, 0 where it is not inside. */
  region(bytes: number, isWrite: boolean): void {
    const { writer, context } = this.parts;
    writer
      .i32(context.worker)
      .get(this.pointer)
      .i32(bytes)
      .i32(isWrite ? 1 : 0)
      .call(context.module.functionNamed('region_address'))
      .tee(this.address);
  }

  /**
   * Leaves an i32: not 0 where `register + offset` is surely in the packet, and its address in `address` then. All in 64 bits, so
   * that nothing wraps.
   */
  packetTest(register: number, offset: number, bytes: number): void {
    const { writer, context } = this.parts;
    const packet = context.worker + WORKER_PACKET;
    const meta = (): FunctionWriter => writer.i32(0).memory(MemoryOp.i64Load32U, packet + PACKET_META);
    this.pointerTo(register, offset).tee(this.pointer).op(Op.wrap).set(this.address);
    writer.get(this.pointer).i64(pointerTo(TAG_PACKET, 0)).op(Op.i64Sub);
    meta().op(Op.i64Sub).tee(this.value);
    writer.i32(0).memory(MemoryOp.i64Load32U, packet + PACKET_END);
    meta().op(Op.i64Sub).tee(this.#length).op(Op.i64LeU);
    // where the first test is true, adding wraps no more
    writer.get(this.value).i64(BigInt(bytes)).op(Op.i64Add).get(this.#length).op(Op.i64LeU, Op.i32And);
  }

  /** Counts a turn of a loop, and traps at the last one. */
  turn(pc: number): void {
    const { writer, context } = this.parts;
    writer.getGlobal(context.turns).i32(1).op(Op.i32Sub).tee(this.address).setGlobal(context.turns);
    writer.get(this.address).op(Op.i32Eqz).if();
    this.trap('limit', pc, () => writer.i64(0n), 0);
    writer.end();
  }
}
