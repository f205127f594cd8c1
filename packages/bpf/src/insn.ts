/**
 * Constructors of instructions: what a code generator writes, one for each meaning, so that nobody assembles opcodes by
 * hand. `instruction.ts` has the data they make.
 */
import { checkInstruction } from './form.ts';
import type { Instruction } from './instruction.ts';
import {
  AluCode,
  AtomicCode,
  CALL_OPCODE,
  CallPseudo,
  EndianSource,
  EXIT_OPCODE,
  InstructionClass,
  JumpCode,
  Mode,
  SizeOfBytes,
  Source,
  WIDE_OPCODE,
  WidePseudo,
} from './opcode.ts';

/** A register as the second operand of arithmetic or of a jump; a plain number there is an immediate. */
export interface RegisterOperand {
  readonly register: number;
}

/** Second operand: `reg(2)`, or a signed 32-bit immediate, which 64-bit instructions sign-extend. */
export type Operand = RegisterOperand | number;

/** Makes a register operand: `insn.alu64('add', 1, reg(2))` is `r1 += r2`. */
export function reg(register: number): RegisterOperand {
  return { register };
}

/** Arithmetic with two operands. */
export type AluOperation = Exclude<AluCode, 'mov' | 'neg' | 'end'> | 'sdiv' | 'smod';

/** A condition of a jump. */
export type JumpCondition = Exclude<JumpCode, 'ja' | 'call' | 'exit' | 'cond'>;

/** Bytes of a memory access. */
export type AccessBytes = keyof typeof SizeOfBytes;

/**
 * Constructors, one for each meaning, in the order of RFC 9669. Memory sizes are bytes, extension and swap widths are
 * bits, offsets of jumps are slots from the next instruction. All throw EncodingError that names a field out of range.
 */
export const insn = {
  /** `r1 += r2` */
  alu64: (op: AluOperation, dst: number, operand: Operand) => alu(InstructionClass.alu64, op, dst, operand),
  /** `w1 += w2`: 32 bits, zero-extended. */
  alu32: (op: AluOperation, dst: number, operand: Operand) => alu(InstructionClass.alu, op, dst, operand),
  /** `r1 = r2`, or an immediate, sign-extended to 64 bits. */
  mov: (dst: number, operand: Operand) => binary(InstructionClass.alu64 | AluCode.mov, dst, operand, 0),
  /** `w1 = w2`, zero-extended. */
  mov32: (dst: number, operand: Operand) => binary(InstructionClass.alu | AluCode.mov, dst, operand, 0),
  /** `r1 = (s8)r2`: sign-extends to 64 bits (cpu v4). */
  movsx: (dst: number, src: number, bits: 8 | 16 | 32) => binary(InstructionClass.alu64 | AluCode.mov, dst, reg(src), bits),
  /** `w1 = (s8)w2`: sign-extends to 32 bits, then zero-extends (cpu v4). */
  movsx32: (dst: number, src: number, bits: 8 | 16) => binary(InstructionClass.alu | AluCode.mov, dst, reg(src), bits),
  /** `r1 = addr_space_cast(r2, 0, 1)`: an arena pointer from one address space into the other (kernel 6.9). */
  castAddressSpace: (dst: number, src: number, to: 0 | 1, from: 0 | 1) =>
    checked({
      opcode: InstructionClass.alu64 | AluCode.mov | Source.reg,
      dst,
      src,
      offset: 1,
      imm: (to << 16) | from,
    }),
  /** `r1 = -r1` */
  neg: (dst: number) => binary(InstructionClass.alu64 | AluCode.neg, dst, 0, 0),
  /** `w1 = -w1` */
  neg32: (dst: number) => binary(InstructionClass.alu | AluCode.neg, dst, 0, 0),
  /** `r1 = be16 r1`: from host to big endian or back; the rest of the register is zeroed. */
  toBe: (dst: number, bits: SwapBits) => swap(InstructionClass.alu | EndianSource.be, dst, bits),
  /** `r1 = le16 r1` */
  toLe: (dst: number, bits: SwapBits) => swap(InstructionClass.alu | EndianSource.le, dst, bits),
  /** `r1 = bswap16 r1`: swaps on every host (cpu v4). */
  bswap: (dst: number, bits: SwapBits) => swap(InstructionClass.alu64, dst, bits),

  /** `if r1 > r2 goto pc+5` */
  jump: (op: JumpCondition, dst: number, operand: Operand, offset: number) =>
    binary(InstructionClass.jmp | JumpCode[op], dst, operand, offset),
  /** `if w1 > w2 goto pc+5`: compares the lower 32 bits. */
  jump32: (op: JumpCondition, dst: number, operand: Operand, offset: number) =>
    binary(InstructionClass.jmp32 | JumpCode[op], dst, operand, offset),
  /** `goto pc+5` */
  ja: (offset: number) => checked({ opcode: InstructionClass.jmp | JumpCode.ja, dst: 0, src: 0, offset, imm: 0 }),
  /** `gotol pc+5`: with a 32-bit distance (cpu v4). */
  ja32: (distance: number) => checked({ opcode: InstructionClass.jmp32 | JumpCode.ja, dst: 0, src: 0, offset: 0, imm: distance }),
  /** `may_goto pc+5`: jumps once the kernel's loop budget is spent (kernel 6.9). */
  mayGoto: (offset: number) => checked({ opcode: InstructionClass.jmp | JumpCode.cond, dst: 0, src: 0, offset, imm: 0 }),
  /** `call bpf_tail_call#12`: a helper by its id, see `Helper`. */
  call: (helperId: number) => call(CallPseudo.helper, helperId, 0),
  /** `callx r2`: a helper by the id in a register (RFC 9669, conformance group callx); Linux refuses it. */
  callRegister: (dst: number) => checked({ opcode: CALL_OPCODE | Source.reg, dst, src: 0, offset: 0, imm: 0 }),
  /** `call pc+5`: a subprogram, in slots from the next instruction. */
  callSubprogram: (distance: number) => call(CallPseudo.subprogram, distance, 0),
  /** `call kernel-function#5`: a kernel function by BTF id; a module's also by its index in fd_array. */
  callKfunc: (btfId: number, fdIndex = 0) => call(CallPseudo.kfunc, btfId, fdIndex),
  /** `exit` */
  exit: () => checked({ opcode: EXIT_OPCODE, dst: 0, src: 0, offset: 0, imm: 0 }),

  /** `r1 = *(u32 *)(r2 +8)`, zero-extended. */
  load: (bytes: AccessBytes, dst: number, src: number, offset: number) =>
    checked({ opcode: InstructionClass.ldx | Mode.mem | SizeOfBytes[bytes], dst, src, offset, imm: 0 }),
  /** `r1 = *(s32 *)(r2 +8)`, sign-extended to 64 bits (cpu v4). */
  loadSx: (bytes: 1 | 2 | 4, dst: number, src: number, offset: number) =>
    checked({ opcode: InstructionClass.ldx | Mode.memsx | SizeOfBytes[bytes], dst, src, offset, imm: 0 }),
  /** `*(u32 *)(r1 +8) = r2` */
  store: (bytes: AccessBytes, dst: number, offset: number, src: number) =>
    checked({ opcode: InstructionClass.stx | Mode.mem | SizeOfBytes[bytes], dst, src, offset, imm: 0 }),
  /** `*(u32 *)(r1 +8) = 5`; 8 bytes get the immediate sign-extended. */
  storeImm: (bytes: AccessBytes, dst: number, offset: number, imm: number) =>
    checked({ opcode: InstructionClass.st | Mode.mem | SizeOfBytes[bytes], dst, src: 0, offset, imm }),
  /** `lock *(u64 *)(r1 +8) += r2` and its kin, see `AtomicCode`; sizes 1 and 2 for `loadAcquire` and `storeRelease`. */
  atomic: (op: AtomicCode, bytes: AccessBytes, dst: number, offset: number, src: number) =>
    checked({
      opcode: InstructionClass.stx | Mode.atomic | SizeOfBytes[bytes],
      dst,
      src,
      offset,
      imm: AtomicCode[op],
    }),

  /** `r1 = 0x123456789 ll`: the low 64 bits of `value`, signed or unsigned. */
  wide: (dst: number, value: bigint) =>
    wide(dst, WidePseudo.value, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n))),
  /** `r1 = map[fd:5]`: a map; leave the fd out where a MapReference names the map. */
  wideMap: (dst: number, fd = 0) => wide(dst, WidePseudo.mapFd, fd, 0),
  /** `r1 = map[fd:5][0]+8`: the address of a byte in element 0 of an array map. */
  wideMapValue: (dst: number, byteOffset: number, fd = 0) => wide(dst, WidePseudo.mapValue, fd, byteOffset),
  /** `r1 = subprog[+5]`: a callback, in slots from the slot after this instruction's first. */
  wideFunction: (dst: number, distance: number) => wide(dst, WidePseudo.func, distance, 0),
} as const;

/** Bits of a byte swap. */
export type SwapBits = 16 | 32 | 64;

function alu(instructionClass: number, op: AluOperation, dst: number, operand: Operand): Instruction {
  const signed = op === 'sdiv' || op === 'smod';
  const code = op === 'sdiv' ? AluCode.div : op === 'smod' ? AluCode.mod : AluCode[op];
  return binary(instructionClass | code, dst, operand, signed ? 1 : 0);
}

function binary(opcode: number, dst: number, operand: Operand, offset: number): Instruction {
  return typeof operand === 'number'
    ? checked({ opcode: opcode | Source.imm, dst, src: 0, offset, imm: operand })
    : checked({ opcode: opcode | Source.reg, dst, src: operand.register, offset, imm: 0 });
}

function swap(opcode: number, dst: number, bits: SwapBits): Instruction {
  return checked({ opcode: opcode | AluCode.end, dst, src: 0, offset: 0, imm: bits });
}

function call(src: number, imm: number, offset: number): Instruction {
  return checked({ opcode: CALL_OPCODE, dst: 0, src, offset, imm });
}

function wide(dst: number, src: number, imm: number, immHigh: number): Instruction {
  return checked({ opcode: WIDE_OPCODE, dst, src, offset: 0, imm, immHigh });
}

function checked(instruction: Instruction): Instruction {
  checkInstruction(instruction);
  return instruction;
}
