/**
 * What the analyser knows at one place of a function, how the states of paths that meet become one, and what a branch
 * teaches. Places of the packet go by ids: an id stands for a distance from the packet's first byte, the same one wherever
 * the id is in one state, and never below 0.
 */
import { InstructionClass, JumpCode, OpcodeMask, Source } from '@tailrace/bpf';
import { type AbstractValue, ANY, constant, join, NO_ID, PACKET, same, UINT32, upTo } from './abstract-value.ts';
import type { Operation } from './code.ts';
import type { FrameRange } from './frame-access.ts';
import { FRAME_SIZE } from './layout.ts';

/** What is known at one place of a function. */
export interface State {
  readonly registers: AbstractValue[];
  /** Own stack slots of 8 bytes whose content is known, by offset from the frame's end. */
  readonly stack: Map<number, AbstractValue>;
  /** Bytes that are there behind what an id stands for. */
  readonly ranges: Map<number, number>;
}

/** What a register holds. */
export function register(state: State, index: number): AbstractValue {
  return state.registers[index] ?? ANY;
}

export function write(state: State, index: number, value: AbstractValue): void {
  state.registers[index] = value;
}

export function copyOf({ registers, stack, ranges }: State): State {
  return { registers: [...registers], stack: new Map(stack), ranges: new Map(ranges) };
}

/** Own stack slots that a part of was written are not known any more. */
export function forgetSlots({ stack }: State, { from, to }: FrameRange): void {
  if (stack.size === 0) return;
  for (let slot = Math.max(from - 7, -FRAME_SIZE); slot < Math.min(to, 0); slot++) stack.delete(slot);
}

/** Changes every value in registers and on the stack. */
export function each(state: State, change: (value: AbstractValue) => AbstractValue): void {
  for (const [index, value] of state.registers.entries()) state.registers[index] = change(value);
  for (const [slot, value] of state.stack) state.stack.set(slot, change(value));
}

/** Joins what comes into what is known at the start of a block; true where that changed. */
export function mergeInto(known: State, coming: State, block: number, widen: boolean): boolean {
  let changed = false;
  /** Bytes behind pointers that get an id of this place, by id. */
  const here = new Map<number, number>();
  for (const [index, value] of known.registers.entries()) {
    const other = register(coming, index);
    const met = joinPackets(known, coming, value, other, placeId(block, index));
    if (met) here.set(met.pointer.id, met.bytes);
    const joined = met?.pointer ?? join(value, other, widen);
    if (same(joined, value)) continue;
    known.registers[index] = joined;
    changed = true;
  }
  for (const [slot, value] of known.stack) {
    const other = coming.stack.get(slot);
    const joined = other && join(value, other, widen);
    if (joined && same(joined, value)) continue;
    if (joined) known.stack.set(slot, joined);
    else known.stack.delete(slot);
    changed = true;
  }
  for (const [id, bytes] of [...known.ranges]) {
    if (here.has(id)) continue;
    const other = coming.ranges.get(id) ?? 0;
    if (other >= bytes) continue;
    if (other > 0) known.ranges.set(id, other);
    else known.ranges.delete(id);
    changed = true;
  }
  for (const [id, bytes] of here) {
    if (known.ranges.get(id) === bytes) continue;
    known.ranges.set(id, bytes);
    changed = true;
  }
  return changed;
}

/** The id of what a register holds where paths meet that left different places of the packet in it. */
function placeId(block: number, index: number): number {
  return 0x100_0000 + block * 16 + index;
}

/**
 * Two pointers into the packet, from two paths, that are not the same: one with an id of its own, behind which there are as
 * many bytes as behind the one that has fewer. Where nothing was left of the packet's start on either path, none.
 */
function joinPackets(
  known: State,
  coming: State,
  a: AbstractValue,
  b: AbstractValue,
  id: number,
): { readonly pointer: AbstractValue & { readonly id: number }; readonly bytes: number } | undefined {
  if (a.kind !== 'packet' || b.kind !== 'packet' || a.id === undefined || b.id === undefined) return undefined;
  if (a.id !== id && same(a, b)) return undefined;
  if (a.offset < 0 || b.offset < 0) return undefined;
  const left = (state: State, { id: of, offset }: { readonly id: number; readonly offset: number }): number =>
    Math.max(0, (state.ranges.get(of) ?? 0) - offset);
  const bytes = Math.min(left(known, { id: a.id, offset: a.offset }), left(coming, { id: b.id, offset: b.offset }));
  return { pointer: { kind: 'packet', id, offset: 0 }, bytes };
}

/** An instruction is going to give an id a new meaning: pointers with the old one are somewhere in the packet. */
export function forgetId(state: State, id: number): void {
  each(state, (value) => (value.kind === 'packet' && value.id === id ? PACKET : value));
  state.ranges.delete(id);
}

/** Pointers into the packet are stale. */
export function packetMoved(state: State): void {
  each(state, (value) => (value.kind === 'packet' ? PACKET : value.kind === 'packetEnd' ? ANY : value));
  state.ranges.clear();
}

/** Learns from a branch: `here` is the state where it does not jump. */
export function refine(here: State, taken: State, operation: Operation): void {
  const code = operation.opcode & OpcodeMask.code;
  const is64 = (operation.opcode & OpcodeMask.class) === InstructionClass.jmp;
  const { dst } = operation;
  const left = register(here, dst);
  const right = (operation.opcode & Source.reg) !== 0 ? register(here, operation.src) : constant(BigInt(operation.imm));
  if (is64) {
    // pointer <= end: there are as many bytes as it is on
    if (left.kind === 'packet' && right.kind === 'packetEnd') {
      if (code === JumpCode.gt || code === JumpCode.ge) inRange(here, left);
      if (code === JumpCode.lt || code === JumpCode.le) inRange(taken, left);
    }
    if (left.kind === 'packetEnd' && right.kind === 'packet') {
      if (code === JumpCode.lt || code === JumpCode.le) inRange(here, right);
      if (code === JumpCode.gt || code === JumpCode.ge) inRange(taken, right);
    }
    if ((left.kind === 'value' || left.kind === 'map') && left.maybeNull && right.kind === 'number' && right.constant === 0n) {
      const [present, absent] = code === JumpCode.eq ? [here, taken] : code === JumpCode.ne ? [taken, here] : [];
      if (present && absent) decideNull(left, dst, present, absent);
    }
  }
  if (left.kind !== 'number' || right.kind !== 'number' || right.constant === undefined) return;
  if (!is64 && left.max > UINT32) return;
  const bound = is64 ? right.constant : BigInt.asUintN(32, right.constant);
  if (bound > BigInt(Number.MAX_SAFE_INTEGER)) return;
  const limit = Number(bound);
  const atMost = (state: State, max: number): void => {
    if (max >= 0 && max < left.max) write(state, dst, upTo(max));
  };
  if (code === JumpCode.gt) atMost(here, limit);
  if (code === JumpCode.ge) atMost(here, limit - 1);
  if (code === JumpCode.lt) atMost(taken, limit - 1);
  if (code === JumpCode.le) atMost(taken, limit);
  if (code === JumpCode.eq) write(taken, dst, constant(bound));
  if (code === JumpCode.ne) write(here, dst, constant(bound));
  // where the sign is 0 on both sides, signed comparisons are unsigned ones
  if (limit >= 2 ** 31 || left.max >= 2 ** 31) return;
  if (code === JumpCode.sgt) atMost(here, limit);
  if (code === JumpCode.sge) atMost(here, limit - 1);
  if (code === JumpCode.slt) atMost(taken, limit - 1);
  if (code === JumpCode.sle) atMost(taken, limit);
}

function inRange(state: State, { id, offset }: Extract<AbstractValue, { kind: 'packet' }>): void {
  if (id !== undefined && offset > (state.ranges.get(id) ?? 0)) state.ranges.set(id, offset);
}

type Answer = Extract<AbstractValue, { kind: 'value' | 'map' }>;

/** True for what a lookup or a reservation gave. */
export function isAnswer(value: AbstractValue): value is Answer {
  return value.kind === 'value' || value.kind === 'map';
}

function decideNull(answer: Answer, tested: number, present: State, absent: State): void {
  const isCopy = (value: AbstractValue): value is Answer =>
    isAnswer(value) && value.id === answer.id && answer.id !== NO_ID && value.maybeNull;
  each(present, (value) => (isCopy(value) ? { ...value, maybeNull: false } : value));
  each(absent, (value) => (isCopy(value) ? constant(0n) : value));
  write(present, tested, { ...answer, maybeNull: false });
  write(absent, tested, constant(0n));
}
