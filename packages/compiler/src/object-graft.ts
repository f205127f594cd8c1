/**
 * Puts ways out onto a foreign program: the context is kept from its first instruction on, every exit of its entry becomes a jump
 * behind the entry's end, where the new code stands. Everything that names a place moves along.
 */
import {
  EXIT_OPCODE,
  type Instruction,
  insn,
  type LineInfo,
  type MapReference,
  type ProgramSpec,
  reg,
  slotCount,
  slotsOf,
} from '@tailrace/bpf';
import { isReference, type ProgramCode } from './object-code.ts';

/** Code that is put behind a program's entry. */
export interface GraftedCode {
  readonly instructions: readonly Instruction[];
  /** Places from its start. */
  readonly mapReferences: readonly MapReference[];
}

/** Where a program's context is from its start to its end: in a register, or at an offset from the frame pointer. */
export type ContextHome = { readonly register: number } | { readonly offset: number };

/** Finds a place for the context that the entry does not use; undefined where there is none. */
export function contextHome(code: ProgramCode): ContextHome | undefined {
  const register = code.freeRegister;
  if (register !== undefined) return { register };
  const depth = Math.ceil(code.depth / 8) * 8 + 8;
  return code.allows(depth) ? { offset: -depth } : undefined;
}

/** How far a jump leads. */
const MAX_JUMP = 0x7fff;

/**
 * The program with other ways out. `home` is where it keeps its context, if it has to. Returns undefined where the entry is so long
 * that its exits are out of reach.
 */
export function graft(
  spec: ProgramSpec,
  code: ProgramCode,
  home: ContextHome | undefined,
  grafted: GraftedCode,
): Pick<ProgramSpec, 'instructions' | 'mapReferences' | 'functions' | 'lines' | 'poisons'> | undefined {
  const before = home === undefined ? [] : [keepContext(home)];
  const { end } = code.entry;
  const [first, added] = [before.length, slotCount(grafted.instructions)];
  const moved = (pc: number): number => pc + first + (pc < end ? 0 : added);
  const exits = exitJumps(code.exits, end);
  if (!exits) return undefined;
  const instructions: Instruction[] = [...before];
  let pc = 0;
  for (const instruction of spec.instructions) {
    if (pc === end) instructions.push(...grafted.instructions);
    const jump = exits.get(pc);
    if (jump !== undefined && instruction.opcode === EXIT_OPCODE) instructions.push(insn.ja(jump));
    else if (isReference(instruction)) {
      const target = moved(pc + 1 + instruction.imm);
      instructions.push({ ...instruction, imm: target - moved(pc) - 1 });
    } else instructions.push(instruction);
    pc += slotsOf(instruction);
  }
  if (pc === end) instructions.push(...grafted.instructions);
  const place = <T extends { readonly pc: number }>(record: T): T => ({ ...record, pc: moved(record.pc) });
  return {
    instructions,
    mapReferences: [
      ...spec.mapReferences.map(place),
      ...grafted.mapReferences.map((reference) => ({ ...reference, pc: reference.pc + first + end })),
    ],
    // the entry starts with what is put before it
    functions: spec.functions.map((record) => (record.pc === 0 ? record : place(record))),
    lines: linesOf(spec.lines, code, first, place),
    ...(spec.poisons ? { poisons: spec.poisons.map(place) } : {}),
  };
}

function keepContext(home: ContextHome): Instruction {
  return 'register' in home ? insn.mov(home.register, reg(1)) : insn.store(8, 10, home.offset, 1);
}

/** What is added goes by the lines around it: the program's first, and that of its last exit. */
function linesOf(
  lines: readonly LineInfo[],
  { entry, exits }: ProgramCode,
  first: number,
  place: (line: LineInfo) => LineInfo,
): readonly LineInfo[] {
  const start = lines[0];
  if (!start) return [];
  const inEntry = lines.filter(({ pc }) => pc < entry.end);
  const last = inEntry.findLast(({ pc }) => pc <= (exits.at(-1) ?? 0)) ?? start;
  const behind = { ...last, pc: first + entry.end };
  return [...(first > 0 ? [start] : []), ...inEntry.map(place), behind, ...lines.slice(inEntry.length).map(place)];
}

/** Distances of the jumps in the place of exits; one that is too far away goes by a later one. Undefined where there is none on its way. */
function exitJumps(exits: readonly number[], end: number): ReadonlyMap<number, number> | undefined {
  const jumps = new Map<number, number>();
  const targets = [end];
  for (const pc of [...exits].reverse()) {
    const target = targets.find((place) => place - pc - 1 <= MAX_JUMP);
    if (target === undefined) return undefined;
    jumps.set(pc, target - pc - 1);
    targets.push(pc);
  }
  return jumps;
}
