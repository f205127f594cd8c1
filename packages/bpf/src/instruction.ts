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
