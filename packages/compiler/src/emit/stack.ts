/**
 * Places stack slots below the frame pointer. Slots that are never in use at the same time share their bytes: a slot is
 * in use where some access to it lies behind and another ahead.
 */
import { TailraceError } from '@tailrace/bpf';
import type { StackSlot } from '../ir.ts';
import { type MachineBlock, type MachineFunction, type MachineInstruction, machineSuccessors, reads } from './machine.ts';

/** Bytes of stack that the kernel gives a program (MAX_BPF_STACK, include/linux/filter.h). */
export const STACK_LIMIT = 512;

/** A program needs more stack than there is. */
export class StackError extends TailraceError {
  /** Bytes of each slot that has to be kept, largest first. */
  readonly sizes: readonly number[];
  /** Bytes that are needed at once, with each slot rounded up to 8. */
  readonly total: number;

  constructor(name: string, sizes: readonly number[], total: number) {
    super('compile', `${name} needs ${total} bytes of stack (slots of ${sizes.join(', ')}), expected at most ${STACK_LIMIT}`, {
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
  const conflicts = slotConflicts(fn);
  // The largest first; ties keep their order, so that the layout is the same each time.
  const slots = fn.slots.filter((slot) => conflicts.has(slot)).sort((a, b) => roundUp(b.size) - roundUp(a.size));
  const ends = new Map<StackSlot, number>();
  for (const slot of slots) {
    const taken = [...(conflicts.get(slot) ?? [])].flatMap((other) => {
      const end = ends.get(other);
      return end === undefined ? [] : [{ start: end - roundUp(other.size), end }];
    });
    ends.set(slot, firstGap(taken, roundUp(slot.size)) + roundUp(slot.size));
  }
  const size = Math.max(0, ...ends.values());
  if (size > STACK_LIMIT)
    throw new StackError(
      name,
      slots.map((slot) => slot.size),
      size,
    );
  return { size, offset: (slot) => -(ends.get(slot) ?? 0) };
}

interface Extent {
  readonly start: number;
  readonly end: number;
}

/** The lowest depth at which `size` bytes overlap none of the extents. */
function firstGap(taken: readonly Extent[], size: number): number {
  let at = 0;
  for (const { start, end } of [...taken].sort((a, b) => a.start - b.start)) {
    if (at + size <= start) break;
    at = Math.max(at, end);
  }
  return at;
}

/** For each slot that the code names, the slots that are in use at the same time. */
function slotConflicts(fn: MachineFunction): Map<StackSlot, Set<StackSlot>> {
  const conflicts = new Map<StackSlot, Set<StackSlot>>();
  const predecessors = new Map<MachineBlock, MachineBlock[]>(fn.blocks.map((block) => [block, []]));
  for (const block of fn.blocks) for (const s of machineSuccessors(block)) predecessors.get(s)?.push(block);
  const named = new Map<MachineBlock, Set<StackSlot>>();
  for (const block of fn.blocks) named.set(block, new Set(block.instructions.flatMap((i) => slotOf(i) ?? [])));
  // Slots with an access on some way to a block's start, and on some way from its end.
  const behind = spread(fn.blocks, named, (block) => predecessors.get(block) ?? []);
  const ahead = spread([...fn.blocks].reverse(), named, machineSuccessors);
  for (const block of fn.blocks) {
    const seen = new Set(behind.get(block));
    const slots = block.instructions.map(slotOf);
    const last = new Map(slots.map((slot, i) => [slot, i]));
    slots.forEach((slot, i) => {
      if (!slot) return;
      seen.add(slot);
      for (const other of seen) if ((last.get(other) ?? -1) >= i || ahead.get(block)?.has(other)) join(conflicts, slot, other);
    });
    const through = [...(behind.get(block) ?? [])].filter((s) => ahead.get(block)?.has(s) || named.get(block)?.has(s));
    for (const a of through) for (const b of through) join(conflicts, a, b);
  }
  for (const slot of escaped(fn)) for (const other of conflicts.keys()) join(conflicts, slot, other);
  return conflicts;
}

/** Slots whose address goes elsewhere than to the next call, so that accesses to them cannot be told. */
function escaped(fn: MachineFunction): Set<StackSlot> {
  const out = new Set<StackSlot>();
  for (const block of fn.blocks)
    block.instructions.forEach((instruction, i) => {
      if (instruction.kind !== 'frame') return;
      const rest = block.instructions.slice(i + 1);
      const call = rest.findIndex((next) => next.kind === 'call');
      const before = rest.slice(0, call);
      const taken = rest[call];
      const isArgument = taken?.kind === 'call' && instruction.dst >= 1 && instruction.dst <= taken.arity;
      if (!isArgument || before.some((next) => reads(next).includes(instruction.dst))) out.add(instruction.slot);
    });
  return out;
}

function join(conflicts: Map<StackSlot, Set<StackSlot>>, a: StackSlot, b: StackSlot): void {
  for (const [slot, other] of [
    [a, b],
    [b, a],
  ] as const) {
    const known = conflicts.get(slot) ?? new Set();
    conflicts.set(slot, known);
    if (slot !== other) known.add(other);
  }
}

/** The union of `named` over all blocks that `from` leads to, by one edge or more. */
function spread(
  order: readonly MachineBlock[],
  named: ReadonlyMap<MachineBlock, ReadonlySet<StackSlot>>,
  from: (block: MachineBlock) => readonly MachineBlock[],
): Map<MachineBlock, Set<StackSlot>> {
  const sets = new Map<MachineBlock, Set<StackSlot>>(order.map((block) => [block, new Set()]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of order) {
      const set = sets.get(block);
      if (!set) continue;
      const before = set.size;
      for (const other of from(block)) {
        for (const slot of sets.get(other) ?? []) set.add(slot);
        for (const slot of named.get(other) ?? []) set.add(slot);
      }
      changed ||= set.size !== before;
    }
  }
  return sets;
}

/** The slot that an instruction loads from, stores to or takes the address of. */
function slotOf(instruction: MachineInstruction): StackSlot | undefined {
  switch (instruction.kind) {
    case 'frame':
      return instruction.slot;
    case 'load':
    case 'store':
    case 'atomicAdd':
      return 'slot' in instruction.address ? instruction.address.slot : undefined;
    default:
      return undefined;
  }
}

function roundUp(size: number): number {
  return Math.ceil(size / 8) * 8;
}
