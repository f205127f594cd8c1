/**
 * The words of the kernel's assembly syntax (kernel/bpf/disasm.c), shared by disassembler and assembler. Where the kernel
 * prints two instructions alike, ours differ: a wide immediate ends in ` ll`, as in LLVM and libbpf.
 */
import type { AluOperation, JumpCondition } from './insn.ts';
import type { AtomicCode } from './opcode.ts';

/** Operators of arithmetic, without their `=`. */
export const ALU_OPERATORS: Readonly<Record<AluOperation, string>> = {
  add: '+',
  sub: '-',
  mul: '*',
  div: '/',
  sdiv: 's/',
  or: '|',
  and: '&',
  lsh: '<<',
  rsh: '>>',
  mod: '%',
  smod: 's%',
  xor: '^',
  arsh: 's>>',
};

/** Operators of conditions. */
export const JUMP_OPERATORS: Readonly<Record<JumpCondition, string>> = {
  eq: '==',
  gt: '>',
  ge: '>=',
  set: '&',
  ne: '!=',
  sgt: 's>',
  sge: 's>=',
  lt: '<',
  le: '<=',
  slt: 's<',
  sle: 's<=',
};

/** `lock *(u64 *)(r1 +0) += r2` */
export const LOCK_OPERATORS = { add: '+', or: '|', and: '&', xor: '^' } as const satisfies Partial<Record<AtomicCode, string>>;

/** `r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)` */
export const ATOMIC_NAMES = {
  fetchAdd: 'fetch_add',
  fetchOr: 'fetch_or',
  fetchAnd: 'fetch_and',
  fetchXor: 'fetch_xor',
  xchg: 'xchg',
  cmpxchg: 'cmpxchg',
} as const satisfies Partial<Record<AtomicCode, string>>;

/** The key of a table that has this value, or undefined. */
export function keyOf<Key extends string, Value>(table: Readonly<Record<Key, Value>>, value: Value): Key | undefined {
  return (Object.keys(table) as Key[]).find((key) => table[key] === value);
}
