/** Program specs: what the compiler hands to an engine. */
import type { Instruction } from './instruction.ts';

/** Kernel program kinds (enum bpf_prog_type). */
export const ProgramType = { socketFilter: 1, schedCls: 3, xdp: 6, sockOps: 13, skSkb: 14, skMsg: 16 } as const;
export type ProgramType = keyof typeof ProgramType;

/** The id of no helper, which libbpf too puts where an instruction could not be relocated: `invalid func unknown#195896080`. */
export const POISON_HELPER = 0xbad2310;

/** A wide load whose immediate is filled in at load time with a map's fd. */
export interface MapReference {
  /** Instruction slot of the wide load (BPF_LD | BPF_IMM | BPF_DW). */
  readonly pc: number;
  /** The map's name inside this program. */
  readonly map: string;
  /** Set: load the address of this byte of element 0's value area (BPF_PSEUDO_MAP_VALUE) instead of the map. */
  readonly valueOffset?: number;
}

/** One line of `bpf_line_info`: from this instruction slot on. Slots rise strictly; the first is 0. */
export interface LineInfo {
  readonly pc: number;
  readonly file: string;
  /** The source line's text. */
  readonly text: string;
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
}

/** One function of a program: the entry point is the first, subprograms follow. */
export interface FunctionInfo {
  /** Instruction slot at which it starts. */
  readonly pc: number;
  readonly name: string;
}

/** An instruction that must never run: a call of POISON_HELPER stands in its place, which verifiers refuse where a path reaches it. */
export interface Poison {
  readonly pc: number;
  /** Why, one lowercase line. */
  readonly reason: string;
}

/** A blueprint of one program: deterministic, independent of the host. */
export interface ProgramSpec {
  /** Full name, e.g. `l4lb.encap`; the engine shortens it to the kernel's 15 characters. */
  readonly name: string;
  readonly type: ProgramType;
  /** Takes packets in fragments (BPF_F_XDP_HAS_FRAGS); every program of an XDP chain must agree. */
  readonly frags: boolean;
  /** `Dual MIT/GPL` unless said otherwise. */
  readonly license: string;
  readonly instructions: readonly Instruction[];
  readonly mapReferences: readonly MapReference[];
  readonly functions: readonly FunctionInfo[];
  readonly lines: readonly LineInfo[];
  /** Where the program asks for types or fields that its target does not have; absent: nowhere. */
  readonly poisons?: readonly Poison[];
}
