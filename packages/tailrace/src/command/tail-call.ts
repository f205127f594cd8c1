/** Where a program makes tail calls, and by which slots. */
import { Helper, type Instruction, InstructionClass, insn, OpcodeMask, slotsOf } from '@tailrace/bpf';

/** One tail call. */
export interface TailCall {
  /** Instruction slot of the call. */
  readonly pc: number;
  /** Slot of the program array; undefined where it is no constant of the code right before. */
  readonly slot: number | undefined;
}

/** The third argument, and the ways to put a constant there. */
const INDEX_REGISTER = 3;
const constants: readonly number[] = [insn.mov(INDEX_REGISTER, 0).opcode, insn.mov32(INDEX_REGISTER, 0).opcode];
const call = insn.call(Helper.tail_call);
const jumps: readonly number[] = [InstructionClass.jmp, InstructionClass.jmp32];
const stores: readonly number[] = [InstructionClass.st, InstructionClass.stx];

/** The tail calls of a program, in order. */
export function tailCalls(instructions: readonly Instruction[]): readonly TailCall[] {
  const targets = jumpTargets(instructions);
  const calls: TailCall[] = [];
  let pc = 0;
  let slot: number | undefined;
  for (const instruction of instructions) {
    const { opcode, dst, src, imm } = instruction;
    const kind = opcode & OpcodeMask.class;
    if (targets.has(pc)) slot = undefined;
    if (opcode === call.opcode && src === call.src && imm === call.imm) calls.push({ pc, slot });
    if (constants.includes(opcode) && dst === INDEX_REGISTER) slot = imm;
    else if (jumps.includes(kind) || (dst === INDEX_REGISTER && !stores.includes(kind))) slot = undefined;
    pc += slotsOf(instruction);
  }
  return calls;
}

/** Instruction slots that jumps lead to: there, what stands above need not have run. */
function jumpTargets(instructions: readonly Instruction[]): ReadonlySet<number> {
  const targets = new Set<number>();
  let pc = 0;
  for (const instruction of instructions) {
    const { opcode, offset } = instruction;
    if (jumps.includes(opcode & OpcodeMask.class) && opcode !== call.opcode) targets.add(pc + 1 + offset);
    pc += slotsOf(instruction);
  }
  return targets;
}
