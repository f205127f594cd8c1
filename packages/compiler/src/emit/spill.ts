/**
 * Spilling: registers that found no place live in an 8-byte stack slot, or are made again at each use where that
 * costs one instruction and needs nothing (constants, addresses, plain context fields).
 */
import type { StackSlot } from '../ir.ts';
import { liveOut } from './interference.ts';
import {
  type MachineBlock,
  type MachineFunction,
  type MachineInstruction,
  machineSuccessors,
  type Register,
  reads,
  renameRegisters,
  renameTerminator,
  terminatorReads,
  writes,
} from './machine.ts';

/** Rewrites a function so that `register` is needed only around each use. Returns the short-lived registers it made. */
export function spill(fn: MachineFunction, register: Register): Register[] {
  const definition = repeatableDefinition(fn, register);
  return definition ? rematerialise(fn, register, definition) : keepOnStack(fn, register);
}

/** The only definition of a register, if it can be done again at each use with what is at hand there. */
export function repeatableDefinition(fn: MachineFunction, register: Register): MachineInstruction | undefined {
  const all = fn.blocks.flatMap((b) => b.instructions);
  const definitions = all.filter((i) => writes(i).includes(register));
  const [only] = definitions;
  if (!only || definitions.length > 1 || !isRepeatable(only)) return undefined;
  const needed = reads(only);
  if (needed.some((r) => all.filter((i) => writes(i).includes(r)).length !== 1)) return undefined;
  return needed.length === 0 || isLiveAtUses(fn, register, needed) ? only : undefined;
}

/** True where all of `needed` are alive wherever `register` is read. */
function isLiveAtUses(fn: MachineFunction, register: Register, needed: readonly Register[]): boolean {
  const liveOuts = liveOut(fn);
  for (const block of fn.blocks) {
    const live = new Set(liveOuts.get(block));
    for (const r of terminatorReads(block.terminator)) live.add(r);
    if (terminatorReads(block.terminator).includes(register) && needed.some((r) => !live.has(r))) return false;
    for (let i = block.instructions.length - 1; i >= 0; i--) {
      const instruction = block.instructions[i];
      if (!instruction) continue;
      for (const r of writes(instruction)) live.delete(r);
      const read = reads(instruction);
      for (const r of read) live.add(r);
      if (read.includes(register) && needed.some((r) => !live.has(r))) return false;
    }
  }
  return true;
}

/** True where the instruction yields the same value anywhere after itself. */
function isRepeatable(instruction: MachineInstruction): boolean {
  switch (instruction.kind) {
    case 'constant':
    case 'frame':
    case 'map':
      return true;
    case 'load':
      return instruction.repeatable;
    default:
      return false;
  }
}

function rematerialise(fn: MachineFunction, register: Register, definition: MachineInstruction): Register[] {
  const made: Register[] = [];
  rewrite(fn, (instruction, block) => {
    if (instruction === definition) return [];
    if (!instruction) {
      if (!terminatorReads(block.terminator).includes(register)) return [];
      const fresh = fn.nextRegister++;
      made.push(fresh);
      renameTerminator(block.terminator, (r) => (r === register ? fresh : r));
      return [copyOf(definition, fresh, block.terminator.place)];
    }
    if (!reads(instruction).includes(register)) return [instruction];
    if (instruction.kind === 'move' && instruction.width === 64) return [copyOf(definition, instruction.dst, instruction.place)];
    const fresh = fn.nextRegister++;
    made.push(fresh);
    renameRegisters(
      instruction,
      (r) => (r === register ? fresh : r),
      (r) => r,
    );
    return [copyOf(definition, fresh, instruction.place), instruction];
  });
  return made;
}

function copyOf(definition: MachineInstruction, dst: Register, place: MachineInstruction['place']): MachineInstruction {
  const copy = { ...definition, place };
  renameRegisters(
    copy,
    (r) => r,
    () => dst,
  );
  return copy;
}

/**
 * Moves a register's home to the stack. On a line of blocks between two calls it has a register of its own, loaded
 * once; where that found no place either, each use loads anew.
 */
function keepOnStack(fn: MachineFunction, register: Register): Register[] {
  const known = fn.homes.get(register);
  const slot = known ?? newSlot(fn);
  const address = { slot, offset: 0 } as const;
  const made: Register[] = [];
  let held: Register | undefined;
  const fresh = (): Register => {
    const next = fn.nextRegister++;
    if (known) made.push(next);
    else fn.homes.set(next, slot);
    return next;
  };
  const load = (dst: Register, place: MachineInstruction['place']): MachineInstruction => {
    return { kind: 'load', size: 8, dst, address, repeatable: false, place };
  };
  const ends = new Map<MachineBlock, Register | undefined>();
  const before = onlyPredecessors(fn);
  rewrite(fn, (instruction, block, isFirst) => {
    const from = before.get(block);
    if (isFirst) held = from && ends.get(from);
    if (!instruction) ends.set(block, held);
    const place = instruction ? instruction.place : block.terminator.place;
    const out: MachineInstruction[] = [];
    const reader = (): Register => {
      if (held !== undefined && !known) return held;
      held = fresh();
      out.push(load(held, place));
      return held;
    };
    if (!instruction) {
      if (!terminatorReads(block.terminator).includes(register)) return [];
      const dst = reader();
      ends.set(block, held);
      renameTerminator(block.terminator, (r) => (r === register ? dst : r));
      return out;
    }
    if (instruction.kind === 'call') held = undefined;
    const isRead = reads(instruction).includes(register);
    const isWritten = writes(instruction).includes(register);
    if (!isRead && !isWritten) return [instruction];
    if (known && isHomeAccess(instruction, slot)) return [];
    if (instruction.kind === 'move' && instruction.width === 64) {
      if (isRead && isWritten) return [];
      if (isWritten && known) return [{ kind: 'store', size: 8, address, src: { register: instruction.src }, place }];
      if (isRead && (held === undefined || known)) return [load(instruction.dst, place)];
    }
    if (instruction.kind === 'constant' && instruction.value === BigInt.asIntN(32, instruction.value)) {
      held = undefined;
      return [{ kind: 'store', size: 8, address, src: { imm: Number(instruction.value) }, place }];
    }
    const to = isRead ? reader() : fresh();
    renameRegisters(
      instruction,
      (r) => (r === register ? to : r),
      (r) => (r === register ? to : r),
    );
    out.push(instruction);
    if (isWritten) {
      held = to;
      out.push({ kind: 'store', size: 8, address, src: { register: to }, place });
    }
    return out;
  });
  return made;
}

/** The predecessor of each block that has one alone. */
function onlyPredecessors(fn: MachineFunction): Map<MachineBlock, MachineBlock | undefined> {
  const found = new Map<MachineBlock, MachineBlock | undefined>();
  for (const block of fn.blocks) for (const s of new Set(machineSuccessors(block))) found.set(s, found.has(s) ? undefined : block);
  return found;
}

function newSlot(fn: MachineFunction): StackSlot {
  const slot: StackSlot = { id: fn.nextSlot++, size: 8 };
  fn.slots.push(slot);
  fn.spillSlots.add(slot);
  return slot;
}

/** True for the loads and stores that an earlier spill made between a register and its slot. */
function isHomeAccess(instruction: MachineInstruction, slot: StackSlot): boolean {
  return (
    (instruction.kind === 'load' || instruction.kind === 'store') && 'slot' in instruction.address && instruction.address.slot === slot
  );
}

/** Replaces each instruction by what `step` returns; at the end of a block, `step` gets no instruction. */
function rewrite(
  fn: MachineFunction,
  step: (instruction: MachineInstruction | undefined, block: MachineBlock, isFirst: boolean) => MachineInstruction[],
): void {
  for (const block of fn.blocks) {
    const out: MachineInstruction[] = [];
    block.instructions.forEach((instruction, i) => {
      out.push(...step(instruction, block, i === 0));
    });
    out.push(...step(undefined, block, block.instructions.length === 0));
    block.instructions = out;
  }
}
