/** A foreign program taken apart into its functions, and the checks without which nothing can be grafted onto it. */
import {
  CALL_OPCODE,
  CallPseudo,
  EXIT_OPCODE,
  type Instruction,
  InstructionClass,
  JumpCode,
  Mode,
  OpcodeMask,
  type ProgramSpec,
  slotsOf,
  WIDE_OPCODE,
  WidePseudo,
} from '@tailrace/bpf';
import { STACK_LIMIT } from './emit/stack.ts';
import { type FunctionCode, stackDepth, successors } from './object-stack.ts';

/** Why nothing can be grafted onto a program. */
export interface CodeFault {
  readonly pc: number;
  /** One lowercase line. */
  readonly message: string;
}

/** Frames take multiples of this (round_up in check_max_stack_depth, kernel/bpf/verifier.c at v6.1). */
const FRAME_GRAIN = 32;

/** A program's functions, the entry first. */
export class ProgramCode {
  readonly functions: readonly FunctionCode[];
  /** Slots of the entry that leave the program. */
  readonly exits: readonly number[];
  readonly #depths = new Map<FunctionCode, number>();
  readonly #belows = new Map<FunctionCode, number>();

  constructor({ instructions, functions }: ProgramSpec) {
    const starts = functions.length > 0 ? functions.map(({ pc }) => pc) : [0];
    const parts = starts.map(() => new Map<number, Instruction>());
    let [pc, order] = [0, 0];
    for (const instruction of instructions) {
      if (pc === starts[order + 1]) order++;
      parts[order]?.set(pc, instruction);
      pc += slotsOf(instruction);
    }
    this.functions = parts.map((code, at) => ({ start: starts[at] ?? 0, end: starts[at + 1] ?? pc, instructions: code }));
    this.exits = [...this.entry.instructions].flatMap(([at, { opcode }]) => (opcode === EXIT_OPCODE ? [at] : []));
  }

  get entry(): FunctionCode {
    return this.functions[0] as FunctionCode;
  }

  /** What is wrong with the entry, if anything: ways out of it that are no exits. */
  fault(): CodeFault | undefined {
    const { start, end, instructions } = this.entry;
    for (const [pc, instruction] of instructions) {
      for (const next of successors(instruction, pc))
        if (next < start || next >= end) return { pc, message: `leads to pc ${next}, out of its function` };
      if (isPacketLoad(instruction))
        return { pc, message: 'is a legacy packet load, which ends the program where the packet is too short' };
    }
    for (const [pc, target] of this.#references()) if (target === start) return { pc, message: 'calls the program itself' };
    return this.exits.length === 0 ? { pc: start, message: 'begins a program that never returns' } : undefined;
  }

  /** Bytes of stack that the entry uses. */
  get depth(): number {
    return this.#depthOf(this.entry);
  }

  /** True where the entry's frame may have so many bytes, with those of what it calls. */
  allows(depth: number): boolean {
    if (depth > STACK_LIMIT) return false;
    const [now, then] = [this.#total(this.entry, this.depth), this.#total(this.entry, depth)];
    return then <= STACK_LIMIT || then === now;
  }

  /** Whether any function calls one of these helpers. */
  calls(helpers: readonly number[]): boolean {
    return this.functions.some(({ instructions }) =>
      instructions.values().some(({ opcode, src, imm }) => opcode === CALL_OPCODE && src === CallPseudo.helper && helpers.includes(imm)),
    );
  }

  /** A register of those that calls keep which the entry does not name. */
  get freeRegister(): number | undefined {
    const used = new Set([...this.entry.instructions.values()].flatMap(registersOf));
    return [9, 8, 7, 6].find((register) => !used.has(register));
  }

  #depthOf(code: FunctionCode): number {
    const known = this.#depths.get(code) ?? stackDepth(code);
    this.#depths.set(code, known);
    return known;
  }

  /** Bytes of the deepest way from a function on, whose own frame has `depth`. Recursion counts as nothing: engines refuse it. */
  #total(code: FunctionCode, depth: number): number {
    return Math.ceil(Math.max(depth, 1) / FRAME_GRAIN) * FRAME_GRAIN + this.#below(code);
  }

  #below(code: FunctionCode): number {
    const known = this.#belows.get(code);
    if (known !== undefined) return known;
    this.#belows.set(code, 0);
    const targets = new Set([...this.#references(code)].map(([, target]) => target));
    const called = this.functions.filter(({ start }) => targets.has(start));
    const deepest = Math.max(0, ...called.map((other) => this.#total(other, this.#depthOf(other))));
    this.#belows.set(code, deepest);
    return deepest;
  }

  /** Calls of subprograms and callbacks, with where they lead: of one function, or of all. */
  *#references(code?: FunctionCode): Iterable<readonly [pc: number, target: number]> {
    for (const { instructions } of code ? [code] : this.functions)
      for (const [pc, instruction] of instructions) if (isReference(instruction)) yield [pc, pc + 1 + instruction.imm];
  }
}

/** True for calls of subprograms and loads of callbacks: their immediate is the distance from the next slot. */
export function isReference({ opcode, src }: Instruction): boolean {
  return (opcode === CALL_OPCODE && src === CallPseudo.subprogram) || (opcode === WIDE_OPCODE && src === WidePseudo.func);
}

function isPacketLoad({ opcode }: Instruction): boolean {
  const mode = opcode & OpcodeMask.mode;
  return (opcode & OpcodeMask.class) === InstructionClass.ld && (mode === Mode.abs || mode === Mode.ind);
}

/** Registers that an instruction names; r0 may be among them for nothing. */
function registersOf({ opcode, dst, src }: Instruction): readonly number[] {
  if (opcode === WIDE_OPCODE) return [dst];
  const kind = opcode & OpcodeMask.class;
  const isCall = kind === InstructionClass.jmp && (opcode & OpcodeMask.code) === JumpCode.call;
  return isCall ? [dst] : [dst, src];
}
