/** How many instructions a packet can meet in a program. */
import { type Instruction, slotCount } from '@tailrace/bpf';

/** Classes and operations of jumps (RFC 9669, section 4.3). */
const JMP = 5;
const JMP32 = 6;
const JA = 0;
const CALL = 8;
const EXIT = 9;

/** Instructions on the longest way from the first to an exit. Ways back are not gone: a loop counts once, a subprogram not. */
export function longestWay(instructions: readonly Instruction[]): number {
  const slots: number[] = [];
  let slot = 0;
  for (const instruction of instructions) {
    slots.push(slot);
    slot += slotCount([instruction]);
  }
  const indexes = new Map(slots.map((at, index) => [at, index]));
  const longest = new Map<number, number>();
  const open = new Set<number>();
  // a stack of its own: programs are longer than JavaScript's calls go deep
  const pending = [0];
  for (let index = pending.at(-1); index !== undefined; index = pending.at(-1)) {
    const instruction = instructions[index];
    const next = instruction ? successorsOf(instruction, slots[index] ?? 0).flatMap((to) => indexes.get(to) ?? []) : [];
    open.add(index);
    const ahead = next.filter((to) => !longest.has(to) && !open.has(to));
    if (ahead.length > 0) pending.push(...ahead.slice(0, 1));
    else {
      pending.pop();
      open.delete(index);
      longest.set(index, 1 + Math.max(0, ...next.map((to) => longest.get(to) ?? 0)));
    }
  }
  return longest.get(0) ?? 0;
}

/** Slots that come behind an instruction. */
function successorsOf(instruction: Instruction, slot: number): readonly number[] {
  const { opcode, offset, imm } = instruction;
  const next = slot + slotCount([instruction]);
  const [kind, operation] = [opcode & 7, opcode >> 4];
  if (kind !== JMP && kind !== JMP32) return [next];
  if (operation === EXIT) return [];
  if (operation === CALL) return [next];
  if (operation === JA) return [next + (kind === JMP32 ? imm : offset)];
  return [next, next + offset];
}
