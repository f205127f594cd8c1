/** Instructions as data, and what follows from their shape alone. */
import { WIDE_OPCODE } from './opcode.ts';

/**
 * One eBPF instruction as data. A wide instruction (BPF_LD | BPF_IMM | BPF_DW) is one value here and two slots in
 * memory; `pc` counts slots everywhere (RFC 9669, section 3).
 */
export interface Instruction {
  /** 0..255; see opcode.ts. */
  readonly opcode: number;
  /** Destination register, 0..10. */
  readonly dst: number;
  /** Source register, 0..10, or a BPF_PSEUDO_* kind for wide loads and calls. */
  readonly src: number;
  /** Signed 16 bits. */
  readonly offset: number;
  /** Signed 32 bits. */
  readonly imm: number;
  /** A wide instruction's second immediate, signed 32 bits; undefined for all others. */
  readonly immHigh?: number;
}

/** Slots that an instruction takes: 2 for a wide one, else 1. */
export function slotsOf(instruction: Instruction): 1 | 2 {
  return instruction.opcode === WIDE_OPCODE ? 2 : 1;
}

/** Slots that a program takes. */
export function slotCount(instructions: readonly Instruction[]): number {
  return instructions.reduce((slots, instruction) => slots + slotsOf(instruction), 0);
}

/** The 64 bits of a wide instruction's immediates, unsigned. */
export function wideValue(instruction: Instruction): bigint {
  return (BigInt.asUintN(32, BigInt(instruction.immHigh ?? 0)) << 32n) | BigInt.asUintN(32, BigInt(instruction.imm));
}
