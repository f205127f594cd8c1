/**
 * The bytes of a packet that a program can reach: where they start and end, places in them, and how far these are from the
 * first. Packet references are `base + constant offset`.
 */
import { ArgumentError } from '@tailrace/bpf';
import type { Layout } from '@tailrace/stage';
import type { CompareOp, Value } from '../ir.ts';
import { type Range, range, union } from '../range.ts';
import { rememberedValue } from './fact.ts';
import type { Lowering } from './lowering.ts';
import { type NumberOperand, type Operand, type RefOperand, UNDEFINED } from './operand.ts';
import type { Join } from './path.ts';
import { exact } from './scalar.ts';

/** The verifier takes packet offsets of 15 bits, not of 16. */
export const MAX_PACKET_OFFSET = 0x7fff;

/** For references that only mark a place: no byte of it need be there. */
export const PLACE: Layout = { kind: 'struct', size: 0, align: 1, fields: {}, views: {} };

/** The packet's first byte. */
export function packetStart(lowering: Lowering): Value {
  return rememberedValue(lowering, 'packet:data', () => pointer(lowering, 'data'));
}

/** Where the bytes end that can be reached. */
export function packetEnd(lowering: Lowering): Value {
  return rememberedValue(lowering, 'packet:end', () => pointer(lowering, 'dataEnd'));
}

function pointer(lowering: Lowering, name: 'data' | 'dataEnd'): Value {
  const { bytes } = lowering.hook;
  if (bytes === undefined) throw new ArgumentError(`programs of ${lowering.hook.kind} see no bytes`);
  return lowering.load(bytes.pointerSize, 'context', lowering.graph.context, bytes[name], 'packet');
}

/** Pointers that a number was added to, and how much that may be. */
const advances = new WeakMap<Value, Range>();
/** Pointers that were made anew, and those that they replace, as far from the packet's first byte. */
const replaced = new WeakMap<Value, Value>();

/** A packet pointer, moved on by a number. */
export function advanceBy(lowering: Lowering, pointer: Value, by: NumberOperand): Value {
  const moved = lowering.advance(pointer, exact(lowering, by), 'packet');
  advances.set(moved, by.range);
  return moved;
}

/** A pointer to where `old` pointed before the kernel put the packet elsewhere. */
export function replaceBy(lowering: Lowering, old: Value, distance: NumberOperand): Value {
  const pointer = advanceBy(lowering, packetStart(lowering), distance);
  replaced.set(pointer, old);
  return pointer;
}

/** Is a packet pointer surely an even number of bytes from the packet's first? */
export function isEvenDistance(pointer: Value, seen = new Map<Value, boolean>()): boolean {
  if (pointer.kind === 'load') return pointer.space === 'context';
  const known = seen.get(pointer);
  if (known !== undefined) return known;
  const old = replaced.get(pointer);
  const of = (from: Value): boolean => isEvenDistance(from, seen);
  const isEven = old
    ? of(old)
    : pointer.kind === 'phi'
      ? pointer.inputs.every((input) => input.kind === 'const' || of(input))
      : pointer.kind === 'binary' && pointer.op === 'add' && isEvenNumber(pointer.right) && of(pointer.left);
  seen.set(pointer, isEven);
  return isEven;
}

function isEvenNumber(value: Value): boolean {
  if (value.kind === 'const') return value.value % 2n === 0n;
  if (value.kind === 'phi') return value.inputs.every(isEvenNumber);
  if (value.kind !== 'binary' || value.right.kind !== 'const') return false;
  return value.op === 'lsh' ? value.right.value > 0n : value.op === 'and' && value.right.value % 2n === 0n;
}

/** How far a packet pointer is from `root`, or from the packet's first byte; undefined where that is not known. */
export function distanceOf(pointer: Value, root?: Value, seen = new Map<Value, Range | undefined>()): Range | undefined {
  if (root ? pointer === root : pointer.kind === 'load' && pointer.space === 'context') return range(0n, 0n);
  if (seen.has(pointer)) return seen.get(pointer);
  const distance = derived(pointer, (from) => distanceOf(from, root, seen));
  seen.set(pointer, distance);
  return distance;
}

/** A pointer's distance by that of the pointers it is made of. */
function derived(pointer: Value, of: (from: Value) => Range | undefined): Range | undefined {
  const old = replaced.get(pointer);
  if (old) return of(old);
  if (pointer.kind === 'phi') {
    // a header that was tested: null on the other paths
    const distances = pointer.inputs.filter((input) => input.kind !== 'const').map(of);
    return distances.reduce((a, b) => a && b && union(a, b));
  }
  if (pointer.kind !== 'binary' || pointer.op !== 'add') return undefined;
  const by = pointer.right.kind === 'const' ? range(pointer.right.value, pointer.right.value) : advances.get(pointer);
  const from = by && of(pointer.left);
  return from && by && range(from.lo + by.lo, from.hi + by.hi);
}

/** A chain of tests that all have to hold; the first that does not leads to undefined. */
export function found(lowering: Lowering, tests: (absent: Join) => RefOperand | undefined): Operand {
  const [absent, done] = [lowering.newJoin(), lowering.newJoin()];
  // facts that the tests establish must hold on both paths: load the packet's ends first
  packetEnd(lowering);
  packetStart(lowering);
  const ref = tests(absent);
  lowering.jump(done, ref);
  lowering.enter(absent);
  lowering.jump(done, UNDEFINED);
  return lowering.enter(done) ?? UNDEFINED;
}

/** Goes on where the comparison does not hold, the usual case unless said otherwise. */
export function unless(lowering: Lowering, left: Value, op: CompareOp, right: Value, absent: Join, likely: 'then' | 'else' = 'else'): void {
  const on = lowering.newJoin();
  lowering.branch(
    op,
    left,
    right,
    () => lowering.jump(absent),
    () => lowering.jump(on),
    likely,
  );
  lowering.enter(on);
}

/** A place in the packet whose bytes were checked. */
export function packetRef(lowering: Lowering, layout: Layout, base: Value, offset: number, position?: NumberOperand): RefOperand {
  return {
    kind: 'ref',
    layout,
    base,
    offset,
    space: 'packet',
    shared: false,
    nullable: false,
    epoch: lowering.environment.epoch,
    ...(position ? { position } : {}),
  };
}
