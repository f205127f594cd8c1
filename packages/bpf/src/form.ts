/**
 * Which instructions exist: for each opcode, the fields that mean something, and what the others must be. The encoder,
 * the decoder and the disassembler share it. Rules follow RFC 9669 and, where that is silent, kernel/bpf/verifier.c.
 */
import { EncodingError } from './errors.ts';
import type { Instruction } from './instruction.ts';
import {
  AluCode,
  AtomicCode,
  CallPseudo,
  InstructionClass,
  JumpCode,
  MAX_REGISTER,
  Mode,
  OpcodeMask,
  Size,
  Source,
  WIDE_OPCODE,
  WidePseudo,
} from './opcode.ts';

/** A field of an instruction, by its RFC name. */
export type InstructionField = 'opcode' | 'dst' | 'src' | 'offset' | 'imm' | 'immHigh';

/** Why an instruction is no instruction. */
export interface FormProblem {
  readonly field: InstructionField;
  /** What the field should be, e.g. `0`, `8, 16 or 32`. */
  readonly expected: string;
}

/**
 * Checks field ranges, the opcode and reserved fields. Throws EncodingError that names the field; `pc` only serves its
 * message.
 */
export function checkInstruction(instruction: Instruction, pc?: number): void {
  const problem = rangeProblem(instruction) ?? formProblem(instruction);
  if (!problem) return;
  const { field, expected } = problem;
  const value = field === 'opcode' ? opcodeText(instruction.opcode) : String(instruction[field]);
  const where = pc === undefined ? '' : `pc ${pc}: `;
  const whose = field === 'opcode' ? '' : ` of opcode ${opcodeText(instruction.opcode)}`;
  throw new EncodingError(field, `${where}${field}${whose} is ${value}, expected ${expected}`, pc === undefined ? {} : { pc });
}

/** The first field out of its range, or undefined. */
export function rangeProblem(instruction: Instruction): FormProblem | undefined {
  const { opcode, dst, src, offset, imm, immHigh } = instruction;
  if (!within(opcode, 0, 0xff)) return { field: 'opcode', expected: 'a byte' };
  if (!within(dst, 0, MAX_REGISTER)) return { field: 'dst', expected: 'a register 0 to 10' };
  if (!within(src, 0, MAX_REGISTER)) return { field: 'src', expected: 'a register 0 to 10' };
  if (!within(offset, -0x8000, 0x7fff)) return { field: 'offset', expected: 'a signed 16-bit integer' };
  if (!within(imm, -0x8000_0000, 0x7fff_ffff)) return { field: 'imm', expected: 'a signed 32-bit integer' };
  if (opcode !== WIDE_OPCODE) return immHigh === undefined ? undefined : { field: 'immHigh', expected: 'absent' };
  if (immHigh === undefined || !within(immHigh, -0x8000_0000, 0x7fff_ffff))
    return { field: 'immHigh', expected: 'a signed 32-bit integer' };
  return undefined;
}

/** The first unknown opcode or field with a value it may not have, or undefined. Assumes ranges are right. */
export function formProblem(instruction: Instruction): FormProblem | undefined {
  switch (instruction.opcode & OpcodeMask.class) {
    case InstructionClass.alu:
    case InstructionClass.alu64:
      return aluProblem(instruction);
    case InstructionClass.jmp:
    case InstructionClass.jmp32:
      return jumpProblem(instruction);
    case InstructionClass.ld:
      return instruction.opcode === WIDE_OPCODE ? wideProblem(instruction) : packetProblem(instruction);
    case InstructionClass.ldx:
      return loadProblem(instruction);
    case InstructionClass.st:
      return modeOf(instruction) === Mode.mem ? zeros(instruction, 'src') : UNKNOWN;
    default:
      return storeProblem(instruction);
  }
}

const UNKNOWN: FormProblem = { field: 'opcode', expected: 'a known opcode' };

function aluProblem(instruction: Instruction): FormProblem | undefined {
  const { opcode, offset, imm } = instruction;
  const is64 = (opcode & OpcodeMask.class) === InstructionClass.alu64;
  const fromRegister = (opcode & OpcodeMask.source) === Source.reg;
  const operand = fromRegister ? 'imm' : 'src';
  switch (opcode & OpcodeMask.code) {
    case AluCode.end:
      if (is64 && fromRegister) return UNKNOWN;
      if (imm !== 16 && imm !== 32 && imm !== 64) return { field: 'imm', expected: '16, 32 or 64' };
      return zeros(instruction, 'src', 'offset');
    case AluCode.neg:
      return fromRegister ? UNKNOWN : zeros(instruction, 'src', 'offset', 'imm');
    case AluCode.div:
    case AluCode.mod:
      if (offset !== 0 && offset !== 1) return { field: 'offset', expected: '0, or 1 for signed' };
      return zeros(instruction, operand);
    case AluCode.mov:
      if (!fromRegister) return zeros(instruction, 'src', 'offset');
      return movProblem(instruction, is64);
    default:
      return (opcode & OpcodeMask.code) > AluCode.end ? UNKNOWN : zeros(instruction, operand, 'offset');
  }
}

/** `mov` between registers: plain, sign-extending (offset 8, 16, 32) or an arena cast (offset 1, kernel 6.9). */
function movProblem(instruction: Instruction, is64: boolean): FormProblem | undefined {
  const { offset, imm } = instruction;
  if (is64 && offset === 1) return imm === 1 || imm === 0x1_0000 ? undefined : { field: 'imm', expected: '1 or 65536 for a cast' };
  if (offset !== 0 && offset !== 8 && offset !== 16 && !(is64 && offset === 32))
    return { field: 'offset', expected: is64 ? '0, 8, 16 or 32' : '0, 8 or 16' };
  return zeros(instruction, 'imm');
}

function jumpProblem(instruction: Instruction): FormProblem | undefined {
  const { opcode, src } = instruction;
  const is32 = (opcode & OpcodeMask.class) === InstructionClass.jmp32;
  const fromRegister = (opcode & OpcodeMask.source) === Source.reg;
  const code = opcode & OpcodeMask.code;
  if (code === JumpCode.ja) {
    if (fromRegister) return UNKNOWN;
    return zeros(instruction, 'dst', 'src', is32 ? 'offset' : 'imm');
  }
  if (code === JumpCode.call) {
    if (is32) return UNKNOWN;
    if (fromRegister) return zeros(instruction, 'src', 'offset', 'imm'); // callx
    if (src > CallPseudo.kfunc) return { field: 'src', expected: '0 (helper), 1 (subprogram) or 2 (kfunc)' };
    return src === CallPseudo.kfunc ? zeros(instruction, 'dst') : zeros(instruction, 'dst', 'offset');
  }
  if (code === JumpCode.exit) return is32 || fromRegister ? UNKNOWN : zeros(instruction, 'dst', 'src', 'offset', 'imm');
  if (code === JumpCode.cond) return is32 || fromRegister ? UNKNOWN : zeros(instruction, 'dst', 'src', 'imm');
  if (code > JumpCode.cond) return UNKNOWN;
  return zeros(instruction, fromRegister ? 'imm' : 'src');
}

function wideProblem(instruction: Instruction): FormProblem | undefined {
  switch (instruction.src) {
    case WidePseudo.value:
    case WidePseudo.mapValue:
    case WidePseudo.btfId:
    case WidePseudo.mapIndexValue:
      return zeros(instruction, 'offset');
    case WidePseudo.mapFd:
    case WidePseudo.func:
    case WidePseudo.mapIndex:
      return zeros(instruction, 'offset', 'immHigh');
    default:
      return { field: 'src', expected: 'a pseudo kind 0 to 6' };
  }
}

function packetProblem(instruction: Instruction): FormProblem | undefined {
  if (sizeOf(instruction) === Size.dw) return UNKNOWN;
  const mode = modeOf(instruction);
  if (mode === Mode.abs) return zeros(instruction, 'dst', 'src', 'offset');
  return mode === Mode.ind ? zeros(instruction, 'dst', 'offset') : UNKNOWN;
}

function loadProblem(instruction: Instruction): FormProblem | undefined {
  const mode = modeOf(instruction);
  const known = mode === Mode.mem || (mode === Mode.memsx && sizeOf(instruction) !== Size.dw);
  return known ? zeros(instruction, 'imm') : UNKNOWN;
}

const ATOMIC_CODES: ReadonlySet<number> = new Set(Object.values(AtomicCode));

function storeProblem(instruction: Instruction): FormProblem | undefined {
  const mode = modeOf(instruction);
  if (mode === Mode.mem) return zeros(instruction, 'imm');
  if (mode !== Mode.atomic) return UNKNOWN;
  const size = sizeOf(instruction);
  if (size === Size.b || size === Size.h) {
    const ordered = instruction.imm === AtomicCode.loadAcquire || instruction.imm === AtomicCode.storeRelease;
    return ordered ? undefined : { field: 'imm', expected: 'load-acquire or store-release at 1 and 2 bytes' };
  }
  return ATOMIC_CODES.has(instruction.imm) ? undefined : { field: 'imm', expected: 'an atomic operation' };
}

function modeOf(instruction: Instruction): number {
  return instruction.opcode & OpcodeMask.mode;
}

function sizeOf(instruction: Instruction): number {
  return instruction.opcode & OpcodeMask.size;
}

function zeros(instruction: Instruction, ...fields: InstructionField[]): FormProblem | undefined {
  const field = fields.find((name) => instruction[name] !== 0);
  return field === undefined ? undefined : { field, expected: '0' };
}

function within(value: number, low: number, high: number): boolean {
  return Number.isInteger(value) && value >= low && value <= high;
}

function opcodeText(opcode: number): string {
  return within(opcode, 0, 0xff) ? `0x${opcode.toString(16).padStart(2, '0')}` : String(opcode);
}
