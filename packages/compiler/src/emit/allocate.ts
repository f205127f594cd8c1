/** Register allocation: colours the interference graph, spills what finds no place, and tries again. */
import { colour } from './colour.ts';
import { interference } from './interference.ts';
import { type MachineFunction, type Register, renameRegisters, renameTerminator } from './machine.ts';
import { repeatableDefinition, spill } from './spill.ts';

/** Renames every virtual register to r0..r9 and drops copies that became empty. Returns how many were spilled. */
export function allocate(fn: MachineFunction): number {
  const shortLived = new Set<Register>();
  let spills = 0;
  for (;;) {
    const { colours, spilled, merged } = colour(interference(fn), shortLived);
    if (spilled.length === 0) {
      rename(fn, colours);
      return spills;
    }
    rename(fn, merged);
    // What is made again reads registers that spilling the others would take away.
    const repeated = spilled.filter((register) => repeatableDefinition(fn, register));
    for (const register of [...repeated, ...spilled.filter((r) => !repeated.includes(r))]) {
      for (const made of spill(fn, register)) shortLived.add(made);
      spills++;
    }
  }
}

function rename(fn: MachineFunction, to: ReadonlyMap<Register, Register>): void {
  const place = (register: Register): Register => to.get(register) ?? register;
  for (const block of fn.blocks) {
    for (const instruction of block.instructions) renameRegisters(instruction, place, place);
    renameTerminator(block.terminator, place);
    block.instructions = block.instructions.filter((i) => !(i.kind === 'move' && i.width === 64 && i.dst === i.src));
  }
}
