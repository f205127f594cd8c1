/**
 * Loads and stores of integers at any offset, and whether two places may share bytes. The verifier takes accesses of the
 * stack only where they are aligned (check_ptr_alignment, kernel/bpf/verifier.c): others are put together of pieces.
 */
import type { Layout } from '@tailrace/stage';
import type { MemorySize, UnaryOp, Value } from '../ir.ts';
import type { Emitter } from './emitter.ts';
import type { RefOperand } from './operand.ts';

/** What of a reference an access needs. */
type Place = Pick<RefOperand, 'space' | 'base' | 'offset'>;

interface Bytes extends Place {
  readonly size: number;
}

/** Byte swaps by size. */
export const SWAP: Readonly<Record<number, UnaryOp>> = { 2: 'swap16', 4: 'swap32', 8: 'swap64' };

/** The largest access that a number of bytes fills. */
export const chunk = (size: number): MemorySize => (size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1);

/** The largest power of two, up to 8, that divides an offset. */
export const alignment = (offset: number): MemorySize => chunk(offset === 0 ? 8 : offset & -offset);

/** The bytes from `at` on behind a place, zero-extended. */
export function loadBytes(emitter: Emitter, size: MemorySize, { space, base, offset }: Place, at = 0): Value {
  const piece = pieceOf(size, space, offset + at);
  let value = emitter.load(piece, space, base, offset + at);
  for (let i: number = piece; i < size; i += piece) {
    const next = emitter.load(piece, space, base, offset + at + i);
    value = emitter.binary('or', value, emitter.binary('lsh', next, emitter.constant(8 * i)));
  }
  return value;
}

/** Stores the low bytes of a value from `at` on behind a place. */
export function storeBytes(emitter: Emitter, size: MemorySize, { space, base, offset }: Place, value: Value, at = 0): void {
  const piece = pieceOf(size, space, offset + at);
  for (let i = 0; i < size; i += piece) {
    emitter.store(piece, space, base, offset + at + i, i === 0 ? value : emitter.binary('rsh', value, emitter.constant(8 * i)));
  }
}

function pieceOf(size: MemorySize, space: RefOperand['space'], offset: number): MemorySize {
  return space === 'stack' || space === 'skb' ? chunk(Math.min(size, alignment(offset))) : size;
}

/** May a write to one place change what the other holds? Stack slots are nobody else's. */
export function mayOverlap(a: Bytes, b: Bytes): boolean {
  if (a.space !== b.space || a.space === 'stack') return false;
  if (a.base !== b.base) return true;
  return a.offset < b.offset + b.size && b.offset < a.offset + a.size;
}

/** Is every byte a part of the value, whatever it holds? Not where there is padding, nor for booleans. */
export function isDense(layout: Layout): boolean {
  switch (layout.kind) {
    case 'int':
      return true;
    case 'struct': {
      const fields = Object.values(layout.fields);
      return fields.reduce((sum, field) => sum + field.layout.size, 0) === layout.size && fields.every((field) => isDense(field.layout));
    }
    case 'array':
      return isDense(layout.item);
    default:
      return false;
  }
}
