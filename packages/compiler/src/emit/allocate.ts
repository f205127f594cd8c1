/** Register allocation: colours the interference graph, spills what finds no place, and tries again. */
import { TailraceError } from '@tailrace/bpf';
import { ASSIGNABLE, colour } from './colour.ts';
import { interference } from './interference.ts';
import { type MachineFunction, type Register, renameRegisters, renameTerminator } from './machine.ts';
import { Spiller } from './spill.ts';

/** Rounds of spilling after which no more will help. */
const ROUND_LIMIT = 100;

/**
 * Renames every virtual register to one of `registers` and drops copies that became empty. Returns how many were
 * spilled. Fewer than r0 to r6 are too few: a call's five arguments and its memory operands must fit at once.
 */
export function allocate(fn: MachineFunction, registers: readonly Register[] = ASSIGNABLE): number {
  const shortLived = new Set<Register>();
  let spills = 0;
  for (let round = 0; round < ROUND_LIMIT; round++) {
    const { colours, spilled, merged } = colour(interference(fn), shortLived, registers);
    if (spilled.length === 0) {
      rename(fn, colours);
      return spills;
    }
    rename(fn, merged);
    const spiller = new Spiller(fn);
    // What is made again reads registers that spilling the others would take away.
    const repeated = spilled.filter((register) => spiller.repeatableDefinition(register));
    for (const register of [...repeated, ...spilled.filter((r) => !repeated.includes(r))]) {
      for (const made of spiller.spill(register)) shortLived.add(made);
      spills++;
    }
  }
  throw new TailraceError('compile', `${registers.length} registers are too few for some instruction`);
}

function rename(fn: MachineFunction, to: ReadonlyMap<Register, Register>): void {
  const place = (register: Register): Register => to.get(register) ?? register;
  for (const block of fn.blocks) {
    for (const instruction of block.instructions) renameRegisters(instruction, place, place);
    renameTerminator(block.terminator, place);
    block.instructions = block.instructions.filter((i) => !(i.kind === 'move' && i.width === 64 && i.dst === i.src));
  }
}
