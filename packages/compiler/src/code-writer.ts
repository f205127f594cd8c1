/** Writes instructions in a row, with labels for jumps ahead. */
import { checkInstruction, type Instruction, insn, type JumpCondition, type MapReference, type Operand, slotsOf } from '@tailrace/bpf';

/** A place that jumps can lead to, before it is known where it is. */
export interface Label {
  pc: number | undefined;
}

/** Code that grows at its end. Jumps lead ahead. */
export class CodeWriter {
  readonly #instructions: Instruction[] = [];
  readonly #mapReferences: MapReference[] = [];
  readonly #jumps: { readonly at: number; readonly pc: number; readonly label: Label }[] = [];
  #pc = 0;

  push(...instructions: readonly Instruction[]): void {
    for (const instruction of instructions) {
      this.#instructions.push(instruction);
      this.#pc += slotsOf(instruction);
    }
  }

  /** Loads a map. */
  map(dst: number, map: string): void {
    this.#mapReferences.push({ pc: this.#pc, map });
    this.push(insn.wideMap(dst));
  }

  /** Jumps to a label, where the lower 32 bits of a register compare like that. */
  jump32(op: JumpCondition, dst: number, operand: Operand, label: Label): void {
    this.#jump(insn.jump32(op, dst, operand, 0), label);
  }

  /** The same by all 64 bits. */
  jump(op: JumpCondition, dst: number, operand: Operand, label: Label): void {
    this.#jump(insn.jump(op, dst, operand, 0), label);
  }

  goto(label: Label): void {
    this.#jump(insn.ja(0), label);
  }

  /** Puts a label here. */
  place(label: Label): void {
    label.pc = this.#pc;
  }

  /** The code. Throws EncodingError for a jump that is too far. */
  finish(): { readonly instructions: readonly Instruction[]; readonly mapReferences: readonly MapReference[] } {
    const instructions = [...this.#instructions];
    for (const { at, pc, label } of this.#jumps) {
      const instruction = instructions[at] as Instruction;
      const offset = (label.pc ?? pc) - pc - 1;
      instructions[at] = { ...instruction, offset };
      checkInstruction(instructions[at], pc);
    }
    return { instructions, mapReferences: this.#mapReferences };
  }

  #jump(instruction: Instruction, label: Label): void {
    this.#jumps.push({ at: this.#instructions.length, pc: this.#pc, label });
    this.push(instruction);
  }
}

/** A label that is nowhere yet. */
export function label(): Label {
  return { pc: undefined };
}
