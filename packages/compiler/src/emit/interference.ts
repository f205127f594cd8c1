/** Which registers hold values at the same time: liveness over machine code, and the graph that allocate.ts colours. */
import {
  type MachineBlock,
  type MachineFunction,
  type Move,
  machineSuccessors,
  type Register,
  reads,
  terminatorReads,
  writes,
} from './machine.ts';

/** What allocation needs to know about a function. */
export interface Interference {
  /** Registers that are named, in the order of the code, each block from its end. */
  readonly registers: readonly Register[];
  /** By register: those that it may not share its place with, complete both ways; absent for registers that are not named. */
  readonly neighbours: readonly (Set<Register> | undefined)[];
  /** Copies whose two sides would best be one register. */
  readonly moves: readonly Move[];
  /** By register: what keeping it in memory would cost, by uses and how often they run. */
  readonly spillCost: readonly number[];
}

/** Builds the interference graph. A copy's two sides do not interfere through the copy itself. */
export function interference(fn: MachineFunction): Interference {
  const neighbours: (Set<Register> | undefined)[] = new Array(fn.nextRegister).fill(undefined);
  const spillCost: number[] = new Array(fn.nextRegister).fill(0);
  const moves: Move[] = [];
  const registers: Register[] = [];
  const at = (register: Register): Set<Register> => {
    const known = neighbours[register];
    if (known) return known;
    const made = new Set<Register>();
    neighbours[register] = made;
    registers.push(register);
    return made;
  };
  const ends = liveOut(fn);
  fn.blocks.forEach((block, index) => {
    const count = (register: Register, share = 1): void => {
      at(register);
      spillCost[register] = (spillCost[register] ?? 0) + block.frequency * share;
    };
    const live = new Set(ends[index]);
    for (const register of terminatorReads(block.terminator)) {
      live.add(register);
      count(register);
    }
    for (let i = block.instructions.length - 1; i >= 0; i--) {
      const instruction = block.instructions[i];
      if (!instruction) continue;
      const written = writes(instruction);
      if (instruction.kind === 'move' && instruction.width === 64) {
        live.delete(instruction.src);
        moves.push(instruction);
      }
      for (const register of written) live.add(register);
      // What is made from nothing need not be stored, and costs no more than a load where it is needed.
      const isRemade = instruction.kind === 'map' || instruction.kind === 'frame' || instruction.kind === 'constant';
      for (const register of written) {
        count(register, isRemade ? 0 : 1);
        const others = at(register);
        for (const other of live)
          if (other !== register && !others.has(other)) {
            others.add(other);
            at(other).add(register);
          }
      }
      for (const register of written) live.delete(register);
      for (const register of reads(instruction)) {
        live.add(register);
        count(register);
      }
    }
  });
  return { registers, neighbours, moves, spillCost };
}

/** Registers whose value is still needed at the end of each block, in the order of the blocks. */
function liveOut(fn: MachineFunction): Set<Register>[] {
  const index = new Map(fn.blocks.map((block, i) => [block, i]));
  const next = fn.blocks.map((block) => machineSuccessors(block).map((s) => index.get(s) ?? -1));
  const steps = fn.blocks.map(backwards);
  const starts = fn.blocks.map(() => new Set<Register>());
  const ends = fn.blocks.map(() => new Set<Register>());
  for (let changed = true; changed; ) {
    changed = false;
    for (let i = fn.blocks.length - 1; i >= 0; i--) {
      const out = new Set<Register>();
      for (const s of next[i] ?? []) for (const register of starts[s] ?? []) out.add(register);
      const live = new Set(out);
      for (const step of steps[i] ?? [])
        if (step < 0) live.delete(~step);
        else live.add(step);
      if (live.size !== starts[i]?.size) changed = true;
      starts[i] = live;
      ends[i] = out;
    }
  }
  return ends;
}

/** What a block does to registers from its end on: reads as they are, writes as their complement. */
function backwards(block: MachineBlock): number[] {
  const steps = [...terminatorReads(block.terminator)];
  for (let i = block.instructions.length - 1; i >= 0; i--) {
    const instruction = block.instructions[i];
    if (!instruction) continue;
    for (const register of writes(instruction)) steps.push(~register);
    for (const register of reads(instruction)) steps.push(register);
  }
  return steps;
}
