/**
 * How much of the stack the functions of a foreign program use, by an analysis that follows pointers to it through registers.
 * Objects on the stack extend upwards from the pointers to them, as compilers make it; what a program does against that, it
 * does to itself: a context that it overwrites there no verifier and no engine takes for one.
 */
import {
  AluCode,
  CALL_OPCODE,
  EXIT_OPCODE,
  type Instruction,
  InstructionClass,
  JumpCode,
  Mode,
  OpcodeMask,
  Source,
  slotsOf,
} from '@tailrace/bpf';
import { STACK_LIMIT } from './emit/stack.ts';

/** A function of a program: its instructions by pc. Jumps stay within it. */
export interface FunctionCode {
  readonly start: number;
  readonly end: number;
  readonly instructions: ReadonlyMap<number, Instruction>;
}

const FRAME_POINTER = 10;
const REGISTERS = 10;
const { alu, alu64, jmp, jmp32, ld, ldx, st, stx } = InstructionClass;

/** For each register, the lowest offset from the frame pointer that it may point at; undefined where it points elsewhere. */
type Registers = (number | undefined)[];

/** Bytes below the frame pointer that a function uses, at most; STACK_LIMIT where that cannot be told. */
export function stackDepth(code: FunctionCode): number {
  const before = new Map<number, Registers>([[code.start, new Array(REGISTERS)]]);
  const pending = [code.start];
  let lowest = 0;
  const touch = (offset: number | undefined) => {
    if (offset !== undefined) lowest = Math.min(lowest, Math.max(offset, -STACK_LIMIT));
  };
  for (let pc = pending.pop(); pc !== undefined; pc = pending.pop()) {
    const instruction = code.instructions.get(pc);
    const entry = before.get(pc);
    if (!instruction || !entry) continue;
    const after = [...entry];
    step(instruction, after, touch);
    for (const offset of after) touch(offset);
    for (const next of successors(instruction, pc)) {
      const known = before.get(next);
      if (known ? join(known, after) : before.set(next, [...after])) pending.push(next);
    }
  }
  return Math.abs(lowest);
}

/** Where control goes from an instruction, in slots; calls come back. */
export function successors(instruction: Instruction, pc: number): readonly number[] {
  const { opcode, offset, imm } = instruction;
  const next = pc + slotsOf(instruction);
  if (opcode === EXIT_OPCODE) return [];
  if (!isJump(opcode)) return [next];
  const code = opcode & OpcodeMask.code;
  if (code !== JumpCode.ja) return [next, next + offset];
  return [next + ((opcode & OpcodeMask.class) === jmp32 ? imm : offset)];
}

function isJump(opcode: number): boolean {
  const kind = opcode & OpcodeMask.class;
  return (kind === jmp || kind === jmp32) && (opcode & ~Source.reg) !== CALL_OPCODE;
}

/** Lowers what is known to what another way here brings; true where that changes anything. */
function join(known: Registers, other: Registers): boolean {
  let changed = false;
  for (let register = 0; register < REGISTERS; register++) {
    const offset = other[register];
    if (offset === undefined || (known[register] ?? Number.POSITIVE_INFINITY) <= offset) continue;
    known[register] = offset;
    changed = true;
  }
  return changed;
}

function step(instruction: Instruction, registers: Registers, touch: (offset: number | undefined) => void): void {
  const { opcode, dst, src, offset } = instruction;
  const at = (register: number) => (register === FRAME_POINTER ? 0 : registers[register]);
  const access = (register: number) => {
    const base = at(register);
    if (base !== undefined) touch(base + offset);
  };
  switch (opcode & OpcodeMask.class) {
    case alu64:
      registers[dst] = moved(instruction, at(dst), at(src));
      return;
    case alu:
      registers[dst] = undefined;
      return;
    case ldx:
      access(src);
      registers[dst] = undefined;
      return;
    case stx:
      access(dst);
      // loads with acquire have their address in src
      if ((opcode & OpcodeMask.mode) === Mode.atomic) access(src);
      return;
    case st:
      access(dst);
      return;
    case ld:
      registers[dst] = undefined;
      return;
    default:
      if (opcode === CALL_OPCODE) registers.fill(undefined, 0, 6);
  }
}

/** What 64-bit arithmetic leaves in its destination. */
function moved({ opcode, imm }: Instruction, dst: number | undefined, src: number | undefined): number | undefined {
  const isRegister = (opcode & Source.reg) !== 0;
  const other = isRegister ? src : undefined;
  const code = opcode & OpcodeMask.code;
  if (code === AluCode.mov) return other;
  // an index counts upwards from where it is added
  if (code === AluCode.add && isRegister) return dst ?? other;
  if (dst === undefined) return undefined;
  if (code === AluCode.add) return floor(dst + imm);
  if (code !== AluCode.sub) return -STACK_LIMIT;
  // of two pointers it is the distance
  if (other !== undefined) return undefined;
  return isRegister ? -STACK_LIMIT : floor(dst - imm);
}

function floor(offset: number): number {
  return Math.max(offset, -STACK_LIMIT);
}
