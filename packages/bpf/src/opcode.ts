/**
 * The opcode byte, table by table, as RFC 9669 (section 3) and the kernel's include/uapi/linux/bpf.h draw it.
 *
 *     class alu, jmp:    +-- 7..4 code --+ 3 source +-- 2..0 class --+
 *     class ld, st:      +-- 7..5 mode --+ 4..3 size +- 2..0 class --+
 *
 * Values are already shifted into place, so that an opcode is the `|` of its parts.
 */

/** Instruction classes, bits 2..0 (RFC 9669, section 3.2). */
export const InstructionClass = {
  ld: 0x00, // BPF_LD: wide immediates and legacy packet access
  ldx: 0x01, // BPF_LDX: load into a register
  st: 0x02, // BPF_ST: store an immediate
  stx: 0x03, // BPF_STX: store a register, atomics
  alu: 0x04, // BPF_ALU: 32-bit arithmetic, upper half zeroed
  jmp: 0x05, // BPF_JMP: jumps on 64-bit operands, call, exit
  jmp32: 0x06, // BPF_JMP32: jumps on 32-bit operands
  alu64: 0x07, // BPF_ALU64: 64-bit arithmetic
} as const;
export type InstructionClass = keyof typeof InstructionClass;

/** Where the second operand is, bit 3 of arithmetic and jumps (RFC 9669, section 4). */
export const Source = {
  imm: 0x00, // BPF_K
  reg: 0x08, // BPF_X
} as const;

/** Arithmetic codes, bits 7..4 (RFC 9669, section 4.1). Signed division and modulo are these with offset 1. */
export const AluCode = {
  add: 0x00, // BPF_ADD
  sub: 0x10, // BPF_SUB
  mul: 0x20, // BPF_MUL
  div: 0x30, // BPF_DIV
  or: 0x40, // BPF_OR
  and: 0x50, // BPF_AND
  lsh: 0x60, // BPF_LSH
  rsh: 0x70, // BPF_RSH
  neg: 0x80, // BPF_NEG
  mod: 0x90, // BPF_MOD
  xor: 0xa0, // BPF_XOR
  mov: 0xb0, // BPF_MOV; offset 8, 16, 32: sign extension
  arsh: 0xc0, // BPF_ARSH
  end: 0xd0, // BPF_END: byte swaps
} as const;
export type AluCode = keyof typeof AluCode;

/** What BPF_END does: bit 3 in class alu (RFC 9669, section 4.2); class alu64 has the unconditional swap only. */
export const EndianSource = {
  le: 0x00, // BPF_TO_LE
  be: 0x08, // BPF_TO_BE
} as const;

/** Jump codes, bits 7..4 (RFC 9669, section 4.3). */
export const JumpCode = {
  ja: 0x00, // BPF_JA; in class jmp32 the distance is in imm (gotol)
  eq: 0x10, // BPF_JEQ
  gt: 0x20, // BPF_JGT, unsigned
  ge: 0x30, // BPF_JGE, unsigned
  set: 0x40, // BPF_JSET: dst & src
  ne: 0x50, // BPF_JNE
  sgt: 0x60, // BPF_JSGT, signed
  sge: 0x70, // BPF_JSGE, signed
  call: 0x80, // BPF_CALL
  exit: 0x90, // BPF_EXIT
  lt: 0xa0, // BPF_JLT, unsigned
  le: 0xb0, // BPF_JLE, unsigned
  slt: 0xc0, // BPF_JSLT, signed
  sle: 0xd0, // BPF_JSLE, signed
  cond: 0xe0, // BPF_JCOND: may_goto, kernel 6.9
} as const;
export type JumpCode = keyof typeof JumpCode;

/** Access sizes, bits 4..3 of loads and stores (RFC 9669, section 5). */
export const Size = {
  w: 0x00, // BPF_W, 4 bytes
  h: 0x08, // BPF_H, 2 bytes
  b: 0x10, // BPF_B, 1 byte
  dw: 0x18, // BPF_DW, 8 bytes
} as const;
export type Size = keyof typeof Size;

/** Access sizes by their bytes. */
export const SizeOfBytes = { 1: Size.b, 2: Size.h, 4: Size.w, 8: Size.dw } as const;

/** Access modes, bits 7..5 of loads and stores (RFC 9669, section 5). */
export const Mode = {
  imm: 0x00, // BPF_IMM: wide immediate
  abs: 0x20, // BPF_ABS: legacy packet access
  ind: 0x40, // BPF_IND: legacy packet access
  mem: 0x60, // BPF_MEM
  memsx: 0x80, // BPF_MEMSX: sign-extending load
  atomic: 0xc0, // BPF_ATOMIC
} as const;
export type Mode = keyof typeof Mode;

/** Atomic operations, in imm (RFC 9669, section 5.3). */
export const AtomicCode = {
  add: 0x00, // BPF_ADD
  or: 0x40, // BPF_OR
  and: 0x50, // BPF_AND
  xor: 0xa0, // BPF_XOR
  fetchAdd: 0x01, // BPF_ADD | BPF_FETCH: src receives the old value
  fetchOr: 0x41, // BPF_OR | BPF_FETCH
  fetchAnd: 0x51, // BPF_AND | BPF_FETCH
  fetchXor: 0xa1, // BPF_XOR | BPF_FETCH
  xchg: 0xe1, // BPF_XCHG
  cmpxchg: 0xf1, // BPF_CMPXCHG: compares with r0, which receives the old value
  loadAcquire: 0x100, // BPF_LOAD_ACQ, kernel 6.15, any size: dst = *(src + offset)
  storeRelease: 0x110, // BPF_STORE_REL, kernel 6.15, any size: *(dst + offset) = src
} as const;
export type AtomicCode = keyof typeof AtomicCode;

/** What a wide immediate is, in its src field (RFC 9669, section 5.4). */
export const WidePseudo = {
  value: 0, // a plain 64-bit number
  mapFd: 1, // BPF_PSEUDO_MAP_FD: imm is a map's fd
  mapValue: 2, // BPF_PSEUDO_MAP_VALUE: imm is a map's fd, immHigh an offset into element 0
  btfId: 3, // BPF_PSEUDO_BTF_ID: imm is a kernel variable's BTF id, immHigh its module's fd
  func: 4, // BPF_PSEUDO_FUNC: imm is the distance to a callback subprogram
  mapIndex: 5, // BPF_PSEUDO_MAP_IDX: imm indexes fd_array
  mapIndexValue: 6, // BPF_PSEUDO_MAP_IDX_VALUE: imm indexes fd_array, immHigh is an offset into element 0
} as const;

/** What a call calls, in its src field (RFC 9669, section 4.3.2). */
export const CallPseudo = {
  helper: 0, // imm is a helper id, see helper.ts
  subprogram: 1, // BPF_PSEUDO_CALL: imm is the distance from the next slot
  kfunc: 2, // BPF_PSEUDO_KFUNC_CALL: imm is a BTF id, offset indexes fd_array for a module's
} as const;

/** The masks that take an opcode apart. */
export const OpcodeMask = { class: 0x07, source: 0x08, code: 0xf0, size: 0x18, mode: 0xe0 } as const;

/** Opcode of a wide immediate (BPF_LD | BPF_IMM | BPF_DW): the only instruction of two slots. */
export const WIDE_OPCODE = InstructionClass.ld | Mode.imm | Size.dw;

/** Opcode of exit (BPF_JMP | BPF_EXIT). */
export const EXIT_OPCODE = InstructionClass.jmp | JumpCode.exit;

/** Opcode of call (BPF_JMP | BPF_CALL). */
export const CALL_OPCODE = InstructionClass.jmp | JumpCode.call;

/** Highest register a program may name: r10, the frame pointer, which it only reads. */
export const MAX_REGISTER = 10;
