/**
 * Programs that are not valid any more, made of some that were: a check is gone, a number is another one, a jump leads
 * elsewhere. And instructions without any plan.
 */
import {
  assemble,
  CALL_OPCODE,
  CallPseudo,
  decode,
  EXIT_OPCODE,
  Helper,
  type Instruction,
  InstructionClass,
  insn,
  OpcodeMask,
  reg,
  SizeOfBytes,
  Source,
  slotsOf,
  TailraceError,
  WIDE_OPCODE,
  WidePseudo,
} from '@tailrace/bpf';
import type { Random } from './fuzz-random.ts';

/** Changes some lines of a program's text; what comes out may be no program at all. */
export function mutated(text: string, random: Random): string {
  const lines = text.split('\n');
  const labels = lines.flatMap((line) => /^(\w+):/.exec(line)?.[1] ?? []);
  for (let left = random.between(1, 4); left > 0; left--) {
    const at = random.below(lines.length);
    const line = lines[at] as string;
    const change = random.pick<() => string>([
      () => (line.endsWith(':') ? line : ''),
      () => (line.endsWith(':') ? line : ''),
      () => replaced(line, /(?<=[ -]|0x)(\d+)\b(?!:)/g, random, (number) => String(changed(Number(number), random))),
      () => replaced(line, /[+-]\d+(?=\))/g, random, () => `${random.chance(50) ? '+' : '-'}${random.pick([0, 1, 4, 7, 8, 16, 64, 512])}`),
      () => replaced(line, /\br\d\b/g, random, () => `r${random.below(10)}`),
      () => replaced(line, /u(8|16|32|64)/g, random, () => `u${random.pick([8, 16, 32, 64])}`),
      () => replaced(line, /(?<=goto )l\d+/g, random, () => random.pick(labels.length > 0 ? labels : ['l0'])),
      () => replaced(line, /==|!=|s>=|s<=|s>|s<|>=|<=|>|</g, random, () => random.pick(['==', '!=', '>', '>=', '<', '<=', 's>', 's<'])),
      () => `${line}\n${line.endsWith(':') ? '' : random.pick(lines.filter((other) => !other.endsWith(':')))}`,
    ]);
    lines[at] = change();
  }
  return lines.join('\n');
}

function replaced(line: string, pattern: RegExp, random: Random, by: (found: string) => string): string {
  const found = [...line.matchAll(pattern)];
  if (found.length === 0) return line;
  const { index, 0: text } = random.pick(found) as RegExpExecArray;
  return line.slice(0, index) + by(text) + line.slice(index + text.length);
}

function changed(number: number, random: Random): number {
  return Math.abs(random.pick([number + 1, number - 1, number * 2, number + 8, random.below(600), random.below(0x7fff_ffff)]));
}

/** The instructions of a text; undefined where it is none. */
export function assembled(text: string): ReturnType<typeof assemble> | undefined {
  try {
    return assemble(text);
  } catch (error) {
    if (error instanceof TailraceError) return undefined;
    throw error;
  }
}

/** Bytes as a program; undefined where they are none. Most are not. */
export function decoded(bytes: Uint8Array): readonly Instruction[] | undefined {
  try {
    return decode(bytes);
  } catch (error) {
    if (error instanceof TailraceError) return undefined;
    throw error;
  }
}

const ALU = ['add', 'sub', 'mul', 'div', 'sdiv', 'mod', 'smod', 'or', 'and', 'xor', 'lsh', 'rsh', 'arsh'] as const;
const CONDITIONS = ['eq', 'ne', 'gt', 'ge', 'lt', 'le', 'set', 'sgt', 'sge', 'slt', 'sle'] as const;
const ATOMICS = ['add', 'or', 'and', 'xor', 'fetchAdd', 'fetchOr', 'fetchXor', 'xchg', 'cmpxchg', 'loadAcquire', 'storeRelease'] as const;
const BYTES = [1, 2, 4, 8] as const;

/** Instructions that all exist, in a row that means nothing, up to an exit. Most jumps and calls lead to one of them. */
export function randomInstructions(random: Random): readonly Instruction[] {
  const instructions = Array.from({ length: random.between(3, 40) }, () => randomInstruction(random));
  instructions.push(insn.exit());
  const starts: number[] = [];
  let slots = 0;
  for (const instruction of instructions) {
    starts.push(slots);
    slots += slotsOf(instruction);
  }
  return instructions.map((instruction, at) => {
    const { opcode, src } = instruction;
    const from = (starts[at] as number) + 1;
    const near = Math.min(instructions.length - 1, Math.max(0, at + random.between(-4, 10)));
    const distance = (random.chance(1) ? random.between(-5, 50) : (starts[near] as number)) - from;
    if ((opcode === CALL_OPCODE && src === CallPseudo.subprogram) || (opcode === WIDE_OPCODE && src === WidePseudo.func))
      return { ...instruction, imm: (starts[random.below(instructions.length)] as number) - from };
    const isJump = (opcode & OpcodeMask.class) === InstructionClass.jmp || (opcode & OpcodeMask.class) === InstructionClass.jmp32;
    const goes = isJump && opcode !== CALL_OPCODE && opcode !== EXIT_OPCODE && opcode !== (CALL_OPCODE | Source.reg);
    return goes ? { ...instruction, offset: distance } : instruction;
  });
}

/** Helpers of XDP programs, and some that these do not have. */
const HELPERS: readonly number[] = [
  Helper.map_lookup_elem,
  Helper.map_update_elem,
  Helper.ktime_get_ns,
  Helper.get_prandom_u32,
  Helper.tail_call,
  Helper.redirect,
  Helper.csum_diff,
  Helper.xdp_adjust_head,
  Helper.xdp_adjust_tail,
  Helper.xdp_adjust_meta,
  Helper.xdp_load_bytes,
  Helper.xdp_store_bytes,
  Helper.xdp_get_buff_len,
  Helper.spin_lock,
  Helper.spin_unlock,
  Helper.ringbuf_submit,
  Helper.loop,
  Helper.strtol,
  Helper.snprintf,
  Helper.trace_printk,
];

function randomInstruction(random: Random): Instruction {
  // r10 among what is read, so that memory is met at all
  const any = (): number => random.pick([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const written = (): number => random.below(10);
  const offset = (): number => random.pick([0, 0, 4, 8, 12, 76, -1, -4, -8, -16, -512, random.between(-600, 600)]);
  const operand = (): number | { readonly register: number } => (random.chance(60) ? reg(any()) : random.immediate());
  switch (random.below(12)) {
    case 0:
      return insn.alu64(random.pick(ALU), written(), operand());
    case 1:
      return insn.alu32(random.pick(ALU), written(), operand());
    case 2:
      return insn.mov(written(), operand());
    case 3:
      return insn.wide(written(), random.chance(50) ? random.edge() : (BigInt(random.below(40)) << 32n) | BigInt(random.below(0x60_0000)));
    case 4:
      return insn.load(random.pick(BYTES), written(), random.chance(50) ? 10 : any(), offset());
    case 5:
      return insn.store(random.pick(BYTES), random.chance(60) ? 10 : any(), offset(), any());
    case 6:
      return insn.storeImm(random.pick(BYTES), random.chance(60) ? 10 : any(), offset(), random.immediate());
    case 7:
      return randomAtomic(random, random.chance(60) ? 10 : any(), random.between(-64, 0) * 4);
    case 8:
      return random.chance(85) ? insn.call(random.chance(3) ? random.below(220) : random.pick(HELPERS)) : insn.callSubprogram(0);
    case 9:
      return random.chance(30) ? insn.ja(0) : insn.jump32(random.pick(CONDITIONS), any(), operand(), 0);
    case 10:
      return insn.jump(random.pick(CONDITIONS), any(), operand(), 0);
    default:
      return random.pick([
        insn.exit(),
        insn.neg(written()),
        insn.toBe(written(), random.pick([16, 32, 64])),
        insn.movsx(written(), any(), random.pick([8, 16, 32])),
        insn.loadSx(random.pick([1, 2, 4]), written(), any(), offset()),
        insn.wideFunction(written(), 0),
        random.chance(20) ? insn.callRegister(written()) : insn.mov32(written(), operand()),
      ]);
  }
}

function randomAtomic(random: Random, base: number, offset: number): Instruction {
  const operation = random.pick(ATOMICS);
  const isOrdered = operation === 'loadAcquire' || operation === 'storeRelease';
  const bytes = isOrdered ? random.pick(Object.keys(SizeOfBytes).map(Number) as (1 | 2 | 4 | 8)[]) : random.pick([4, 8] as const);
  return operation === 'loadAcquire'
    ? insn.atomic(operation, bytes, random.below(10), offset, base)
    : insn.atomic(operation, bytes, base, offset, random.below(10));
}
