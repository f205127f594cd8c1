/**
 * Spilling: registers that found no place live in an 8-byte stack slot, or are made again at each use where that
 * costs one instruction and needs nothing (constants, addresses, plain context fields).
 */
import type { StackSlot } from '../ir.ts';
import {
  type MachineBlock,
  type MachineFunction,
  type MachineInstruction,
  type Register,
  reads,
  renameRegisters,
  renameTerminator,
  terminatorReads,
  writes,
} from './machine.ts';

/** Rewrites a function so that `register` is needed only around each use. Returns the short-lived registers it made. */
export function spill(fn: MachineFunction, register: Register): Register[] {
  const definitions = fn.blocks.flatMap((b) => b.instructions).filter((i) => writes(i).includes(register));
  const only = definitions.length === 1 ? definitions[0] : undefined;
  return only && isRepeatable(only) ? rematerialise(fn, register, only) : keepOnStack(fn, register);
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

function keepOnStack(fn: MachineFunction, register: Register): Register[] {
  const made: Register[] = [];
  const slot: StackSlot = { id: fn.nextSlot++, size: 8 };
  fn.slots.push(slot);
  fn.spillSlots.add(slot);
  const address = { slot, offset: 0 } as const;
  const fresh = (): Register => {
    const next = fn.nextRegister++;
    made.push(next);
    return next;
  };
  rewrite(fn, (instruction, block) => {
    if (!instruction) {
      if (!terminatorReads(block.terminator).includes(register)) return [];
      const dst = fresh();
      renameTerminator(block.terminator, (r) => (r === register ? dst : r));
      return [{ kind: 'load', size: 8, dst, address, repeatable: false, place: block.terminator.place }];
    }
    const { place } = instruction;
    const isRead = reads(instruction).includes(register);
    const isWritten = writes(instruction).includes(register);
    if (!isRead && !isWritten) return [instruction];
    if (instruction.kind === 'move' && instruction.width === 64) {
      if (isRead && isWritten) return [];
      if (isRead) return [{ kind: 'load', size: 8, dst: instruction.dst, address, repeatable: false, place }];
      return [{ kind: 'store', size: 8, address, src: { register: instruction.src }, place }];
    }
    const held = fresh();
    renameRegisters(
      instruction,
      (r) => (r === register ? held : r),
      (r) => (r === register ? held : r),
    );
    const out: MachineInstruction[] = [instruction];
    if (isRead) out.unshift({ kind: 'load', size: 8, dst: held, address, repeatable: false, place });
    if (isWritten) out.push({ kind: 'store', size: 8, address, src: { register: held }, place });
    return out;
  });
  return made;
}

/** Replaces each instruction by what `step` returns; at the end of a block, `step` gets no instruction. */
function rewrite(
  fn: MachineFunction,
  step: (instruction: MachineInstruction | undefined, block: MachineBlock) => MachineInstruction[],
): void {
  for (const block of fn.blocks) {
    const out: MachineInstruction[] = [];
    for (const instruction of block.instructions) out.push(...step(instruction, block));
    out.push(...step(undefined, block));
    block.instructions = out;
  }
}
