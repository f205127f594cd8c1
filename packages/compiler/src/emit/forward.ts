/**
 * After allocation: a spilled value that is still in a register is not loaded again, and one that no one loads any more
 * is not stored. Looks along straight lines of blocks.
 */
import type { StackSlot } from '../ir.ts';
import { type MachineBlock, type MachineFunction, type MachineInstruction, machineSuccessors, type Register, writes } from './machine.ts';

/** Which register holds what each spill slot holds. */
type Held = ReadonlyMap<StackSlot, Register>;

/** Removes needless loads and stores of spill slots; registers must be the machine's own. */
export function forwardSpills(fn: MachineFunction): void {
  const predecessors = new Map<MachineBlock, number>();
  for (const block of fn.blocks) for (const s of new Set(machineSuccessors(block))) predecessors.set(s, (predecessors.get(s) ?? 0) + 1);
  const ends = new Map<MachineBlock, Held>();
  for (const block of fn.blocks) {
    const from = predecessors.get(block) === 1 ? fn.blocks.find((b) => machineSuccessors(b).includes(block)) : undefined;
    ends.set(block, forwardIn(block, (from && ends.get(from)) ?? new Map(), fn.spillSlots));
  }
  dropDeadStores(fn);
}

function forwardIn(block: MachineBlock, start: Held, spillSlots: ReadonlySet<StackSlot>): Held {
  const held = new Map(start);
  const out: MachineInstruction[] = [];
  for (const instruction of block.instructions) {
    const slot = spillSlotOf(instruction, spillSlots);
    const known = slot && held.get(slot);
    let kept: MachineInstruction | undefined = instruction;
    if (slot && instruction.kind === 'load' && known !== undefined)
      kept =
        known === instruction.dst ? undefined : { kind: 'move', width: 64, dst: instruction.dst, src: known, place: instruction.place };
    if (slot && instruction.kind === 'store' && 'register' in instruction.src && known === instruction.src.register) kept = undefined;
    if (!kept) continue;
    out.push(kept);
    for (const register of writes(kept)) for (const [other, by] of held) if (by === register) held.delete(other);
    if (!slot) continue;
    if (instruction.kind === 'store') {
      if ('register' in instruction.src) held.set(slot, instruction.src.register);
      else held.delete(slot);
    } else if (instruction.kind === 'load' && !held.has(slot)) held.set(slot, instruction.dst);
  }
  block.instructions = out;
  return held;
}

/** The spill slot that an instruction loads or stores. */
function spillSlotOf(instruction: MachineInstruction, spillSlots: ReadonlySet<StackSlot>): StackSlot | undefined {
  if (instruction.kind !== 'load' && instruction.kind !== 'store') return undefined;
  return 'slot' in instruction.address && spillSlots.has(instruction.address.slot) ? instruction.address.slot : undefined;
}

function dropDeadStores(fn: MachineFunction): void {
  const liveIns = new Map<MachineBlock, Set<StackSlot>>(fn.blocks.map((block) => [block, new Set()]));
  const walk = (block: MachineBlock, isDropping: boolean): Set<StackSlot> => {
    const live = new Set<StackSlot>();
    for (const s of machineSuccessors(block)) for (const slot of liveIns.get(s) ?? []) live.add(slot);
    const kept: MachineInstruction[] = [];
    for (let i = block.instructions.length - 1; i >= 0; i--) {
      const instruction = block.instructions[i];
      if (!instruction) continue;
      const slot = spillSlotOf(instruction, fn.spillSlots);
      const isDead = slot !== undefined && instruction.kind === 'store' && !live.has(slot);
      if (slot && instruction.kind === 'load') live.add(slot);
      if (slot && instruction.kind === 'store') live.delete(slot);
      if (!isDead) kept.push(instruction);
    }
    if (isDropping) block.instructions = kept.reverse();
    return live;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of [...fn.blocks].reverse()) {
      const live = walk(block, false);
      if (live.size !== liveIns.get(block)?.size) changed = true;
      liveIns.set(block, live);
    }
  }
  for (const block of fn.blocks) walk(block, true);
}
