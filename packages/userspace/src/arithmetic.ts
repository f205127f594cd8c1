/**
 * Arithmetic and comparisons as WebAssembly: registers are 64-bit locals, 32-bit results are zero-extended, shifts mask their
 * count, dividing by zero gives 0 and the rest by zero the dividend (RFC 9669, sections 4.1 to 4.3).
 */
import { AluCode, EndianSource, InstructionClass, JumpCode, OpcodeMask, Source } from '@tailrace/bpf';
import type { Operation } from './code.ts';
import { type FunctionWriter, Op, Type } from './wasm-writer.ts';

/** Locals of r0 to r10. */
export type Registers = readonly number[];

const WIDE: Readonly<Record<number, number>> = {
  [AluCode.add]: Op.i64Add,
  [AluCode.sub]: Op.i64Sub,
  [AluCode.mul]: Op.i64Mul,
  [AluCode.or]: Op.i64Or,
  [AluCode.and]: Op.i64And,
  [AluCode.lsh]: Op.i64Shl,
  [AluCode.rsh]: Op.i64ShrU,
  [AluCode.xor]: Op.i64Xor,
  [AluCode.arsh]: Op.i64ShrS,
};
const NARROW: Readonly<Record<number, number>> = {
  [AluCode.add]: Op.i32Add,
  [AluCode.sub]: Op.i32Sub,
  [AluCode.mul]: Op.i32Mul,
  [AluCode.or]: Op.i32Or,
  [AluCode.and]: Op.i32And,
  [AluCode.lsh]: Op.i32Shl,
  [AluCode.rsh]: Op.i32ShrU,
  [AluCode.xor]: Op.i32Xor,
  [AluCode.arsh]: Op.i32ShrS,
};
const COMPARE: Readonly<Record<number, readonly [wide: number, narrow: number]>> = {
  [JumpCode.eq]: [Op.i64Eq, Op.i32Eq],
  [JumpCode.ne]: [Op.i64Ne, Op.i32Ne],
  [JumpCode.gt]: [Op.i64GtU, Op.i32GtU],
  [JumpCode.ge]: [Op.i64GeU, Op.i32GeU],
  [JumpCode.lt]: [Op.i64LtU, Op.i32LtU],
  [JumpCode.le]: [Op.i64LeU, Op.i32LeU],
  [JumpCode.sgt]: [Op.i64GtS, Op.i32GtS],
  [JumpCode.sge]: [Op.i64GeS, Op.i32GeS],
  [JumpCode.slt]: [Op.i64LtS, Op.i32LtS],
  [JumpCode.sle]: [Op.i64LeS, Op.i32LeS],
};

/** Leaves the second operand on the stack, of 64 or 32 bits. */
function operand(writer: FunctionWriter, { opcode, src, imm }: Operation, registers: Registers, is64: boolean): void {
  const isRegister = (opcode & Source.reg) !== 0;
  if (is64) isRegister ? writer.get(registers[src] as number) : writer.i64(BigInt(imm));
  else isRegister ? writer.get(registers[src] as number).op(Op.wrap) : writer.i32(imm);
}

/** Writes an instruction of the classes alu and alu64. */
export function writeArithmetic(writer: FunctionWriter, operation: Operation, registers: Registers): void {
  const { opcode, dst } = operation;
  const is64 = (opcode & OpcodeMask.class) === InstructionClass.alu64;
  const code = opcode & OpcodeMask.code;
  const to = registers[dst] as number;
  switch (code) {
    case AluCode.end:
      return writeSwap(writer, operation, to, is64);
    case AluCode.mov:
      return writeMove(writer, operation, registers, is64);
    case AluCode.neg:
      if (is64) writer.i64(0n).get(to).op(Op.i64Sub).set(to);
      else writer.i32(0).get(to).op(Op.wrap, Op.i32Sub, Op.extendU).set(to);
      return;
    case AluCode.div:
    case AluCode.mod:
      return writeDivision(writer, operation, registers, is64);
    default:
      if (is64) {
        writer.get(to);
        operand(writer, operation, registers, true);
        writer.op(WIDE[code] as number).set(to);
      } else {
        writer.get(to).op(Op.wrap);
        operand(writer, operation, registers, false);
        writer.op(NARROW[code] as number, Op.extendU).set(to);
      }
  }
}

/** Leaves an i32: not 0 where the branch jumps. */
export function writeCondition(writer: FunctionWriter, operation: Operation, registers: Registers): void {
  const { opcode, dst } = operation;
  const is64 = (opcode & OpcodeMask.class) === InstructionClass.jmp;
  const code = opcode & OpcodeMask.code;
  writer.get(registers[dst] as number);
  if (!is64) writer.op(Op.wrap);
  operand(writer, operation, registers, is64);
  if (code === JumpCode.set) {
    if (is64) writer.op(Op.i64And).i64(0n).op(Op.i64Ne);
    else writer.op(Op.i32And);
    return;
  }
  writer.op((COMPARE[code] as readonly [number, number])[is64 ? 0 : 1]);
}

const SIGN_EXTEND_64: Readonly<Record<number, number>> = { 8: Op.i64Extend8S, 16: Op.i64Extend16S, 32: Op.i64Extend32S };
const SIGN_EXTEND_32: Readonly<Record<number, number>> = { 8: Op.i32Extend8S, 16: Op.i32Extend16S };

function writeMove(writer: FunctionWriter, operation: Operation, registers: Registers, is64: boolean): void {
  const to = registers[operation.dst] as number;
  operand(writer, operation, registers, is64);
  const extend = (is64 ? SIGN_EXTEND_64 : SIGN_EXTEND_32)[operation.offset];
  if (extend !== undefined) writer.op(extend);
  if (!is64) writer.op(Op.extendU);
  writer.set(to);
}

function writeDivision(writer: FunctionWriter, operation: Operation, registers: Registers, is64: boolean): void {
  const to = registers[operation.dst] as number;
  const isSigned = operation.offset === 1;
  const isQuotient = (operation.opcode & OpcodeMask.code) === AluCode.div;
  const type = is64 ? Type.i64 : Type.i32;
  const left = (): void => {
    writer.get(to);
    if (!is64) writer.op(Op.wrap);
  };
  const right = (): void => operand(writer, operation, registers, is64);
  const [division, rest] = isSigned
    ? is64
      ? [Op.i64DivS, Op.i64RemS]
      : [Op.i32DivS, Op.i32RemS]
    : is64
      ? [Op.i64DivU, Op.i64RemU]
      : [Op.i32DivU, Op.i32RemU];
  right();
  writer.op(is64 ? Op.i64Eqz : Op.i32Eqz).if(type);
  if (isQuotient) is64 ? writer.i64(0n) : writer.i32(0);
  else left();
  writer.else();
  if (isQuotient && isSigned) {
    // the least number by -1 overflows, which traps in WebAssembly; eBPF wraps
    right();
    is64 ? writer.i64(-1n).op(Op.i64Eq) : writer.i32(-1).op(Op.i32Eq);
    writer.if(type);
    is64 ? writer.i64(0n) : writer.i32(0);
    left();
    writer.op(is64 ? Op.i64Sub : Op.i32Sub).else();
    left();
    right();
    writer.op(division).end();
  } else {
    left();
    right();
    writer.op(isQuotient ? division : rest);
  }
  writer.end();
  if (!is64) writer.op(Op.extendU);
  writer.set(to);
}

/** Byte swaps: the machine is little endian, so `le` only cuts off. */
function writeSwap(writer: FunctionWriter, { opcode, imm }: Operation, to: number, is64: boolean): void {
  if (!is64 && (opcode & Source.reg) === EndianSource.le) {
    if (imm !== 64)
      writer
        .get(to)
        .i64((1n << BigInt(imm)) - 1n)
        .op(Op.i64And)
        .set(to);
    return;
  }
  const swapHalves = (bits: number, mask: bigint): void => {
    const shift = BigInt(bits);
    writer.get(to).i64(shift).op(Op.i64ShrU).i64(mask).op(Op.i64And);
    writer.get(to).i64(mask).op(Op.i64And).i64(shift).op(Op.i64Shl, Op.i64Or);
  };
  if (imm === 16) {
    swapHalves(8, 0xffn);
    writer.i64(0xffffn).op(Op.i64And).set(to);
    return;
  }
  swapHalves(8, 0x00ff_00ff_00ff_00ffn);
  writer.set(to);
  if (imm === 32) {
    // what is above the lower half is cut off by the masks
    swapHalves(16, 0xffffn);
    writer.i64(0xffff_ffffn).op(Op.i64And).set(to);
    return;
  }
  swapHalves(16, 0x0000_ffff_0000_ffffn);
  writer.set(to).get(to).i64(32n).op(Op.i64Rotl).set(to);
}
