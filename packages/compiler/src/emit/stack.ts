/** Places stack slots below the frame pointer. */
import { TailraceError } from '@tailrace/bpf';
import type { StackSlot } from '../ir.ts';
import type { MachineFunction } from './machine.ts';

/** Bytes of stack that the kernel gives a program (MAX_BPF_STACK, include/linux/filter.h). */
export const STACK_LIMIT = 512;

/** A program needs more stack than there is. */
export class StackError extends TailraceError {
  /** Bytes of each slot that has to be kept, largest first. */
  readonly sizes: readonly number[];
  /** Bytes of all slots, each rounded up to 8. */
  readonly total: number;

  constructor(name: string, sizes: readonly number[]) {
    const total = sizes.reduce((sum, size) => sum + roundUp(size), 0);
    super('compile', `${name} needs ${total} bytes of stack (${sizes.join(' + ')}), expected at most ${STACK_LIMIT}`, {
      hint: 'keep fewer or smaller structs alive, or move a part into a stage of its own',
    });
    this.sizes = sizes;
    this.total = total;
  }
}

export interface StackLayout {
  /** Bytes below the frame pointer that are used. */
  readonly size: number;
  /** Offset of a slot's first byte from r10; negative and 8-aligned. */
  offset(slot: StackSlot): number;
}

/** Places every slot that the code still names. Throws StackError. */
export function placeSlots(fn: MachineFunction, name: string): StackLayout {
  const used = new Set<StackSlot>();
  for (const block of fn.blocks)
    for (const i of block.instructions) {
      if (i.kind === 'frame') used.add(i.slot);
      if ((i.kind === 'load' || i.kind === 'store' || i.kind === 'atomicAdd') && 'slot' in i.address) used.add(i.address.slot);
    }
  const offsets = new Map<StackSlot, number>();
  let size = 0;
  for (const slot of fn.slots) {
    if (!used.has(slot)) continue;
    size += roundUp(slot.size);
    offsets.set(slot, -size);
  }
  if (size > STACK_LIMIT)
    throw new StackError(
      name,
      [...used].map((slot) => slot.size).sort((a, b) => b - a),
    );
  return { size, offset: (slot) => offsets.get(slot) ?? 0 };
}

function roundUp(size: number): number {
  return Math.ceil(size / 8) * 8;
}
