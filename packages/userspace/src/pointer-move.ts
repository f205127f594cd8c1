/** Pointers that numbers are added to, as the analyser follows them: where they are then, or that nothing is known of it. */
import { forgetId, type State } from './abstract-state.ts';
import { type AbstractValue, ANY, PACKET, UINT32 } from './abstract-value.ts';

/** A number that may be added to a packet pointer without losing its place: half of what addresses leave to spare. */
const MAX_MOVE = 0xffff;
/**
 * How far from where it started a pointer may be and still be known. Within these no number of turns makes one go round the
 * 64 bits of a register, and none gets to another region's tag.
 */
const REACH = 2 ** 20;
const VALUE_REACH = 2 ** 30;

/** A pointer that a number is added to, or taken from. */
export function moved(state: State, pointer: AbstractValue, by: AbstractValue, sign: 1 | -1, pc: number): AbstractValue {
  if (by.kind !== 'number') return ANY;
  if (by.constant !== undefined) {
    const distance = sign * Number(BigInt.asIntN(64, by.constant));
    return movedBy(pointer, distance);
  }
  if (pointer.kind === 'frame') return { ...pointer, offset: undefined };
  if (sign === -1) return pointer.kind === 'packet' ? PACKET : ANY;
  if (pointer.kind === 'packet') {
    if (pointer.id === undefined || by.max > MAX_MOVE) return PACKET;
    forgetId(state, pc);
    return { kind: 'packet', id: pc, offset: pointer.offset };
  }
  if (pointer.kind === 'value' && !pointer.maybeNull && pointer.spread + by.max <= UINT32)
    return { ...pointer, spread: pointer.spread + by.max };
  return ANY;
}

function movedBy(pointer: AbstractValue, distance: number): AbstractValue {
  switch (pointer.kind) {
    case 'packet':
    case 'context': {
      const offset = pointer.offset + distance;
      if (Math.abs(offset) <= REACH) return { ...pointer, offset };
      return pointer.kind === 'packet' ? PACKET : ANY;
    }
    case 'value': {
      const offset = pointer.offset + distance;
      return pointer.maybeNull || Math.abs(offset) > VALUE_REACH ? ANY : { ...pointer, offset };
    }
    case 'frame': {
      const offset = (pointer.offset ?? 0) + distance;
      return { ...pointer, offset: pointer.offset === undefined || Math.abs(offset) > REACH ? undefined : offset };
    }
    default:
      return ANY;
  }
}
