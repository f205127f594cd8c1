/**
 * What the analyser knows of a register: where a pointer comes from, how large a number can be. Values form a lattice of
 * finite height once joins widen; "any number" is its top, which may be a pointer too.
 */
import type { MapSpec } from '@tailrace/bpf';

/** Knowledge of one register or stack slot. */
export type AbstractValue =
  /** Any 64 bits up to `max`, unsigned; `constant` where there is only one. Without a bound it may be a pointer as well. */
  | { readonly kind: 'number'; readonly max: number; readonly constant: bigint | undefined }
  | { readonly kind: 'context'; readonly offset: number }
  /**
   * The packet's first byte plus something from 0 on that `id` stands for, plus `offset`; id START: plus nothing. Undefined:
   * somewhere in or near the packet.
   */
  | { readonly kind: 'packet'; readonly id: number | undefined; readonly offset: number }
  | { readonly kind: 'packetEnd' }
  /** The frame of the function that starts at `owner`, from its end downwards; offset undefined: somewhere near. */
  | { readonly kind: 'frame'; readonly owner: number; readonly offset: number | undefined }
  /** A map; `id` ties a test for null to all copies of one answer. */
  | { readonly kind: 'map'; readonly spec: MapSpec; readonly name: string | undefined; readonly maybeNull: boolean; readonly id: number }
  /** A value of a map or a record of a ring, of `bytes` bytes; `offset` bytes into it, or up to `spread` more. Null is 0 itself. */
  | {
      readonly kind: 'value';
      readonly spec: MapSpec;
      readonly bytes: number;
      readonly offset: number;
      readonly spread: number;
      readonly maybeNull: boolean;
      readonly id: number;
    };

/** The id of the packet's first byte. */
export const START = -1;
export const UINT32 = 0xffff_ffff;
/** The largest number that bounds are kept for. */
const MAX_BOUND = 2 ** 53;

export const ANY: AbstractValue = { kind: 'number', max: Number.POSITIVE_INFINITY, constant: undefined };
export const PACKET: AbstractValue = { kind: 'packet', id: undefined, offset: 0 };

/** A number of at most `max`. */
export function upTo(max: number): AbstractValue {
  return max < MAX_BOUND ? { kind: 'number', max, constant: undefined } : ANY;
}

/** One number: the low 64 bits of what is given. */
export function constant(value: bigint): AbstractValue {
  const bits = BigInt.asUintN(64, value);
  return { kind: 'number', max: bits < BigInt(MAX_BOUND) ? Number(bits) : Number.POSITIVE_INFINITY, constant: bits };
}

export function same(a: AbstractValue, b: AbstractValue): boolean {
  if (a === b) return true;
  switch (a.kind) {
    case 'number':
      return b.kind === 'number' && a.max === b.max && a.constant === b.constant;
    case 'context':
      return b.kind === 'context' && a.offset === b.offset;
    case 'packet':
      return b.kind === 'packet' && a.id === b.id && a.offset === b.offset;
    case 'packetEnd':
      return b.kind === 'packetEnd';
    case 'frame':
      return b.kind === 'frame' && a.owner === b.owner && a.offset === b.offset;
    case 'map':
      return b.kind === 'map' && a.spec === b.spec && a.name === b.name && a.maybeNull === b.maybeNull && a.id === b.id;
    case 'value':
      return (
        b.kind === 'value' &&
        a.spec === b.spec &&
        a.bytes === b.bytes &&
        a.offset === b.offset &&
        a.spread === b.spread &&
        a.maybeNull === b.maybeNull &&
        a.id === b.id
      );
  }
}

/** What holds of both; `widen` jumps to coarse bounds, so that loops come to an end. */
export function join(a: AbstractValue, b: AbstractValue, widen: boolean): AbstractValue {
  if (same(a, b)) return a;
  if (a.kind === 'number' && b.kind === 'number') {
    const max = Math.max(a.max, b.max);
    return upTo(widen && max > a.max ? coarse(max) : max);
  }
  if (a.kind === 'packet' && b.kind === 'packet') return PACKET;
  if (a.kind === 'frame' && b.kind === 'frame' && a.owner === b.owner) return { ...a, offset: undefined };
  // a test of a copy says nothing of the path where this one is null
  if ((a.kind === 'value' || a.kind === 'map') && isNull(b)) return { ...a, maybeNull: true, id: NO_ID };
  if ((b.kind === 'value' || b.kind === 'map') && isNull(a)) return { ...b, maybeNull: true, id: NO_ID };
  if (a.kind === 'map' && b.kind === 'map' && a.spec === b.spec && a.name === b.name)
    return { ...a, maybeNull: a.maybeNull || b.maybeNull, id: a.id === b.id ? a.id : NO_ID };
  if (a.kind === 'value' && b.kind === 'value' && a.spec === b.spec && a.bytes === b.bytes) return joinedValue(a, b, widen);
  return ANY;
}

/** The id of an answer that only a test of itself refines: no other value is surely a copy of it. */
export const NO_ID = -2;

function joinedValue(
  a: Extract<AbstractValue, { kind: 'value' }>,
  b: Extract<AbstractValue, { kind: 'value' }>,
  widen: boolean,
): AbstractValue {
  const maybeNull = a.maybeNull || b.maybeNull;
  const id = a.id === b.id ? a.id : NO_ID;
  if (a.offset === b.offset && a.spread === b.spread) return { ...a, maybeNull, id };
  // a pointer that a loop moves on: nothing is known of its place
  if (widen) return ANY;
  const offset = Math.min(a.offset, b.offset);
  return { ...a, offset, spread: Math.max(a.offset + a.spread, b.offset + b.spread) - offset, maybeNull, id };
}

function isNull(value: AbstractValue): boolean {
  return value.kind === 'number' && value.constant === 0n;
}

function coarse(max: number): number {
  if (max <= 0xff) return 0xff;
  if (max <= 0xffff) return 0xffff;
  return max <= UINT32 ? UINT32 : Number.POSITIVE_INFINITY;
}
