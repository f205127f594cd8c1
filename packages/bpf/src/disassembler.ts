/**
 * Instructions to text, in the syntax of the verifier's log and `bpftool prog dump xlated`: what inline snapshots hold
 * and error messages show. `assemble` reads it back.
 */
import { checkInstruction } from './form.ts';
import { helperName } from './helper.ts';
import { type Instruction, slotsOf, wideValue } from './instruction.ts';
import {
  AluCode,
  AtomicCode,
  CALL_OPCODE,
  CallPseudo,
  EXIT_OPCODE,
  InstructionClass,
  JumpCode,
  Mode,
  OpcodeMask,
  Size,
  Source,
  WIDE_OPCODE,
  WidePseudo,
} from './opcode.ts';
import type { FunctionInfo, LineInfo, MapReference } from './program.ts';
import { ALU_OPERATORS, ATOMIC_NAMES, JUMP_OPERATORS, keyOf, LOCK_OPERATORS } from './syntax.ts';

/** What a listing shows beside the instructions; a ProgramSpec fits. */
export interface DisassembleOptions {
  /** Shows maps by name instead of fd. */
  readonly mapReferences?: readonly MapReference[];
  /** Puts `name:` above each function's first instruction. */
  readonly functions?: readonly FunctionInfo[];
  /** Puts `; text @ file:line` above each line's first instruction, as bpftool does with `linum`. */
  readonly lines?: readonly LineInfo[];
}

/** A program's listing: `pc: text` a line, pc in slots. Throws EncodingError at what is no instruction. */
export function disassemble(instructions: readonly Instruction[], options: DisassembleOptions = {}): string {
  const maps = byPc(options.mapReferences);
  const functions = byPc(options.functions);
  const lines = byPc(options.lines);
  const listing: string[] = [];
  let pc = 0;
  for (const instruction of instructions) {
    checkInstruction(instruction, pc);
    const start = functions.get(pc);
    const line = lines.get(pc);
    if (start) listing.push(`${start.name}:`);
    if (line) listing.push(`; ${line.text.trim()} @ ${line.file}:${line.line}`);
    listing.push(`${pc}: ${text(instruction, maps.get(pc)?.map)}`);
    pc += slotsOf(instruction);
  }
  return listing.join('\n');
}

/** One instruction's text, with the name of the map it loads, if it does. Throws EncodingError. */
export function disassembleInstruction(instruction: Instruction, map?: string): string {
  checkInstruction(instruction);
  return text(instruction, map);
}

function byPc<Item extends { readonly pc: number }>(items: readonly Item[] = []): ReadonlyMap<number, Item> {
  return new Map(items.map((item) => [item.pc, item]));
}

function text(instruction: Instruction, map: string | undefined): string {
  switch (instruction.opcode & OpcodeMask.class) {
    case InstructionClass.alu:
    case InstructionClass.alu64:
      return aluText(instruction);
    case InstructionClass.jmp:
    case InstructionClass.jmp32:
      return jumpText(instruction);
    case InstructionClass.ld:
      return instruction.opcode === WIDE_OPCODE ? wideText(instruction, map) : packetText(instruction);
    case InstructionClass.ldx:
      return `r${instruction.dst} = *${memory(instruction, instruction.src)}`;
    case InstructionClass.st:
      return `*${memory(instruction, instruction.dst)} = ${instruction.imm}`;
    default:
      return storeText(instruction);
  }
}

function aluText({ opcode, dst, src, offset, imm }: Instruction): string {
  const is64 = (opcode & OpcodeMask.class) === InstructionClass.alu64;
  const fromRegister = (opcode & OpcodeMask.source) === Source.reg;
  const letter = is64 ? 'r' : 'w';
  const operand = fromRegister ? `${letter}${src}` : String(imm);
  const code = opcode & OpcodeMask.code;
  if (code === AluCode.end) return `r${dst} = ${is64 ? 'bswap' : fromRegister ? 'be' : 'le'}${imm} r${dst}`;
  if (code === AluCode.neg) return `${letter}${dst} = -${letter}${dst}`;
  if (code === AluCode.mov) {
    if (is64 && offset === 1) return `r${dst} = addr_space_cast(r${src}, ${imm >>> 16}, ${imm & 0xffff})`;
    return `${letter}${dst} = ${offset === 0 ? '' : `(s${offset})`}${operand}`;
  }
  const signed = offset === 1 ? 's' : '';
  const operation = keyOf(AluCode, code) as keyof typeof AluCode & keyof typeof ALU_OPERATORS;
  return `${letter}${dst} ${signed}${ALU_OPERATORS[operation]}= ${operand}`;
}

function jumpText({ opcode, dst, src, offset, imm }: Instruction): string {
  const is32 = (opcode & OpcodeMask.class) === InstructionClass.jmp32;
  const fromRegister = (opcode & OpcodeMask.source) === Source.reg;
  if (opcode === EXIT_OPCODE) return 'exit';
  if (opcode === CALL_OPCODE) return callText(src, imm, offset);
  if (opcode === (CALL_OPCODE | Source.reg)) return `callx r${dst}`;
  const code = opcode & OpcodeMask.code;
  if (code === JumpCode.ja) return is32 ? `gotol pc${signed(imm)}` : `goto pc${signed(offset)}`;
  if (code === JumpCode.cond) return `may_goto pc${signed(offset)}`;
  const letter = is32 ? 'w' : 'r';
  const operand = fromRegister ? `${letter}${src}` : `0x${(imm >>> 0).toString(16)}`;
  const condition = keyOf(JumpCode, code) as keyof typeof JUMP_OPERATORS;
  return `if ${letter}${dst} ${JUMP_OPERATORS[condition]} ${operand} goto pc${signed(offset)}`;
}

function callText(kind: number, imm: number, fdIndex: number): string {
  if (kind === CallPseudo.subprogram) return `call pc${signed(imm)}`;
  if (kind === CallPseudo.kfunc) return `call kernel-function#${imm}${fdIndex === 0 ? '' : `@${fdIndex}`}`;
  const name = helperName(imm);
  return `call ${name === undefined ? 'unknown' : `bpf_${name}`}#${imm}`;
}

function wideText(instruction: Instruction, map: string | undefined): string {
  const { dst, src, imm, immHigh = 0 } = instruction;
  const byte = `[0]+${immHigh >>> 0}`;
  switch (src) {
    case WidePseudo.mapFd:
      return `r${dst} = map[${map ?? `fd:${imm}`}]`;
    case WidePseudo.mapValue:
      return `r${dst} = map[${map ?? `fd:${imm}`}]${byte}`;
    case WidePseudo.mapIndex:
      return `r${dst} = map[idx:${imm}]`;
    case WidePseudo.mapIndexValue:
      return `r${dst} = map[idx:${imm}]${byte}`;
    case WidePseudo.btfId:
      return `r${dst} = btf_id[${imm}${immHigh === 0 ? '' : `@${immHigh}`}]`;
    case WidePseudo.func:
      return `r${dst} = subprog[${signed(imm)}]`;
    default:
      return `r${dst} = 0x${wideValue(instruction).toString(16)} ll`;
  }
}

function packetText({ opcode, src, imm }: Instruction): string {
  const place = (opcode & OpcodeMask.mode) === Mode.abs ? String(imm) : `r${src} + ${imm}`;
  return `r0 = *(u${bits(opcode)} *)skb[${place}]`;
}

function storeText(instruction: Instruction): string {
  const { opcode, dst, src, imm } = instruction;
  const at = memory(instruction, dst);
  if ((opcode & OpcodeMask.mode) === Mode.mem) return `*${at} = r${src}`;
  const operation = keyOf(AtomicCode, imm) as AtomicCode;
  switch (operation) {
    case 'add':
    case 'or':
    case 'and':
    case 'xor':
      return `lock *${at} ${LOCK_OPERATORS[operation]}= r${src}`;
    case 'loadAcquire':
      return `r${dst} = load_acquire(${memory(instruction, src)})`;
    case 'storeRelease':
      return `store_release(${at}, r${src})`;
    default: {
      const call = `atomic${bits(opcode) === 64 ? '64' : ''}_${ATOMIC_NAMES[operation]}`;
      return operation === 'cmpxchg' ? `r0 = ${call}(${at}, r0, r${src})` : `r${src} = ${call}(${at}, r${src})`;
    }
  }
}

/** `(u32 *)(r2 +8)` */
function memory({ opcode, offset }: Instruction, base: number): string {
  const letter = (opcode & OpcodeMask.mode) === Mode.memsx ? 's' : 'u';
  return `(${letter}${bits(opcode)} *)(r${base} ${signed(offset)})`;
}

function bits(opcode: number): 8 | 16 | 32 | 64 {
  switch (opcode & OpcodeMask.size) {
    case Size.b:
      return 8;
    case Size.h:
      return 16;
    case Size.w:
      return 32;
    default:
      return 64;
  }
}

function signed(value: number): string {
  return value < 0 ? String(value) : `+${value}`;
}
