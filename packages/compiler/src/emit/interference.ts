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
  /** Registers that a register may not share its place with; complete both ways. */
  readonly neighbours: ReadonlyMap<Register, Set<Register>>;
  /** Copies whose two sides would best be one register. */
  readonly moves: readonly Move[];
  /** What keeping a register in memory would cost, by uses and how often they run. */
  readonly spillCost: ReadonlyMap<Register, number>;
}

/** Registers whose value is still needed at the end of each block. */
export function liveOut(fn: MachineFunction): Map<MachineBlock, Set<Register>> {
  const liveIns = new Map<MachineBlock, Set<Register>>(fn.blocks.map((block) => [block, new Set()]));
  const liveOuts = new Map<MachineBlock, Set<Register>>(fn.blocks.map((block) => [block, new Set()]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of [...fn.blocks].reverse()) {
      const out = new Set<Register>();
      for (const s of machineSuccessors(block)) for (const register of liveIns.get(s) ?? []) out.add(register);
      const live = new Set(out);
      for (const register of terminatorReads(block.terminator)) live.add(register);
      for (let i = block.instructions.length - 1; i >= 0; i--) {
        const instruction = block.instructions[i];
        if (!instruction) continue;
        for (const register of writes(instruction)) live.delete(register);
        for (const register of reads(instruction)) live.add(register);
      }
      if (live.size !== liveIns.get(block)?.size) changed = true;
      liveIns.set(block, live);
      liveOuts.set(block, out);
    }
  }
  return liveOuts;
}

/** Builds the interference graph. A copy's two sides do not interfere through the copy itself. */
export function interference(fn: MachineFunction): Interference {
  const neighbours = new Map<Register, Set<Register>>();
  const spillCost = new Map<Register, number>();
  const moves: Move[] = [];
  const at = (register: Register): Set<Register> => {
    const known = neighbours.get(register);
    if (known) return known;
    const made = new Set<Register>();
    neighbours.set(register, made);
    return made;
  };
  const liveOuts = liveOut(fn);
  for (const block of fn.blocks) {
    const weight = block.frequency;
    const count = (register: Register, share = 1): void => {
      at(register);
      spillCost.set(register, (spillCost.get(register) ?? 0) + weight * share);
    };
    const live = new Set(liveOuts.get(block));
    for (const register of terminatorReads(block.terminator)) {
      live.add(register);
      count(register);
    }
    for (let i = block.instructions.length - 1; i >= 0; i--) {
      const instruction = block.instructions[i];
      if (!instruction) continue;
      const read = reads(instruction);
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
        for (const other of live)
          if (other !== register) {
            at(register).add(other);
            at(other).add(register);
          }
      }
      for (const register of written) live.delete(register);
      for (const register of read) {
        live.add(register);
        count(register);
      }
    }
  }
  return { neighbours, moves, spillCost };
}
