/** Writing memory by layout: scalars, struct copies, object literals in place and on the stack. */
import type { IntLayout, Layout, StructLayout } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { MemorySize, StackSlot, Value } from '../ir.ts';
import { isConstant } from '../range.ts';
import { alignment, chunk, isDense, mayOverlap, SWAP, storeBytes } from './access.ts';
import type { Lowering } from './lowering.ts';
import { member, present, readPlace, sameLayout } from './memory.ts';
import {
  type AggregateOperand,
  type BigintOperand,
  describe,
  type NamesOperand,
  type NumberOperand,
  type Operand,
  type RefOperand,
  type StoredOperand,
  type Variable,
} from './operand.ts';
import { packetWritten } from './packet-write.ts';
import { exact, low32 } from './scalar.ts';

/** The machine value that goes to memory for a scalar, and in parts for 6 bytes. */
function toMemory(lowering: Lowering, node: SyntaxNode, layout: IntLayout, operand: Operand, name: string | undefined): readonly Value[] {
  const scalar = scalarFor(lowering, node, layout, operand, name);
  const { size, bigEndian } = layout;
  if (scalar.raw?.size === size && bigEndian) return scalar.raw.parts;
  if (isConstant(scalar.range)) {
    const bytes = BigInt.asUintN(size * 8, scalar.range.lo);
    const value = bigEndian ? reverse(bytes, size) : bytes;
    return size === 6 ? [lowering.constant(value & 0xffff_ffffn), lowering.constant(value >> 32n)] : [lowering.constant(value)];
  }
  const value = scalar.kind === 'bigint' ? scalar.value : size <= 4 ? low32(lowering, scalar) : exact(lowering, scalar);
  if (size === 6) {
    const raw = lowering.unary('swap64', lowering.binary('lsh', value, lowering.constant(16)));
    return [raw, lowering.binary('rsh', raw, lowering.constant(32))];
  }
  const swap = bigEndian ? SWAP[size] : undefined;
  return [swap ? lowering.unary(swap, value) : value];
}

function reverse(value: bigint, size: number): bigint {
  let out = 0n;
  for (let i = 0; i < size; i++) out = (out << 8n) | ((value >> BigInt(8 * i)) & 0xffn);
  return out;
}

/** The number or bigint that a field of this layout takes. */
export function scalarFor(
  lowering: Lowering,
  node: SyntaxNode,
  layout: IntLayout,
  operand: Operand,
  name?: string,
): NumberOperand | BigintOperand {
  const wanted = layout.bigint ? 'bigint' : 'number';
  if (operand.kind === wanted) return operand as NumberOperand | BigintOperand;
  if (operand.kind === 'conflict') lowering.fail(node, 'type', operand.message, operand.hint);
  return lowering.fail(
    node,
    'type',
    `${describe(operand)} where a ${wanted} is stored${inField(name)}`,
    layout.bigint ? 'write 1n, or BigInt(x)' : operand.kind === 'bigint' ? 'use Number(x)' : undefined,
  );
}

/**
 * Writes an operand to a place: a scalar, a struct copy, or an object literal field by field. `room` is how many bytes may
 * be written from its start, `name` the field that messages name. Forgets what the path knew of the packet there.
 */
export function writePlace(
  lowering: Lowering,
  node: SyntaxNode,
  ref: RefOperand,
  operand: Operand,
  room = ref.layout.size,
  name?: string,
): void {
  writeBytes(lowering, node, ref, detached(lowering, node, ref, operand), room, name);
  if (ref.space === 'packet') packetWritten(lowering, ref.base, ref.offset, ref.layout.size);
}

const inField = (name: string | undefined): string => (name === undefined ? '' : ` in '${name}'`);

function writeBytes(lowering: Lowering, node: SyntaxNode, ref: RefOperand, operand: Operand, room: number, name: string | undefined): void {
  const { layout } = ref;
  switch (layout.kind) {
    case 'int': {
      const parts = toMemory(lowering, node, layout, operand, name);
      if (layout.size === 6) {
        storeBytes(lowering, 4, ref, parts[0] as Value);
        storeBytes(lowering, 2, ref, parts[1] as Value, 4);
        return;
      }
      const size = chunk(room) > layout.size && ref.offset % chunk(room) === 0 ? chunk(room) : (layout.size as MemorySize);
      const value = parts[0] as Value;
      storeBytes(lowering, size, ref, size > layout.size && layout.size < 8 ? zeroExtended(lowering, operand, layout, value) : value);
      return;
    }
    case 'bool':
      if (operand.kind !== 'boolean') lowering.fail(node, 'type', `${describe(operand)} where a boolean is stored${inField(name)}`);
      lowering.store(1, ref.space, ref.base, ref.offset, operand.value);
      return;
    case 'struct':
      if (operand.kind === 'aggregate' || operand.kind === 'names')
        return writeFields(lowering, node, ref, layout, partsOf(lowering, operand));
      break;
    case 'array':
      if (operand.kind === 'list') return writeItems(lowering, node, ref, operand.items);
      break;
    default:
  }
  if (operand.kind !== 'ref')
    lowering.fail(
      node,
      'type',
      `${describe(operand)} where ${layout.kind === 'array' ? 'an array' : 'a struct'} is stored${inField(name)}`,
    );
  const from = present(lowering, node, operand);
  if (!sameLayout(from.layout, layout)) lowering.fail(node, 'type', 'a struct of another layout', 'copy the fields one by one');
  if (from.space === 'packet' && !isDense(layout)) writeValues(lowering, node, from, ref);
  else copy(lowering, from, ref);
}

/** Copies values out of a packet: what lies there between them is no part of them. */
function writeValues(lowering: Lowering, node: SyntaxNode, from: RefOperand, to: RefOperand): void {
  if (mayOverlap(bytesOf(from), bytesOf(to)))
    return copy(lowering, stackRef(to.layout, write(lowering, node, to.layout, from).address), to);
  const { layout } = to;
  if (layout.kind === 'struct') {
    const parts = Object.entries(layout.fields).map(
      ([name, field]) => [name, readPlace(lowering, member(from, field.layout, field.offset))] as const,
    );
    return writeFields(lowering, node, to, layout, new Map(parts));
  }
  if (layout.kind !== 'array') return;
  const { item, length } = layout;
  writeItems(
    lowering,
    node,
    to,
    Array.from({ length }, (_, i) => readPlace(lowering, member(from, item, i * item.size))),
  );
}

const bytesOf = (ref: RefOperand) => ({ ...ref, size: ref.layout.size });

/** Copies bytes; headers may overlap, so of those all are read before any is written. */
function copy(lowering: Lowering, from: RefOperand, to: RefOperand): void {
  const stores: (() => void)[] = [];
  for (let at = 0; at < to.layout.size; ) {
    const size = chunk(Math.min(to.layout.size - at, alignment(from.offset + at), alignment(to.offset + at)));
    const [place, value] = [to.offset + at, lowering.load(size, from.space, from.base, from.offset + at)];
    const store = (): void => lowering.store(size, to.space, to.base, place, value);
    if (to.space === 'packet' && mayOverlap(bytesOf(from), bytesOf(to))) stores.push(store);
    else store();
    at += size;
  }
  for (const store of stores) store();
}

/** The operand with copies of what it would overwrite before it is read: JavaScript takes all of a literal first. */
function detached(lowering: Lowering, node: SyntaxNode, to: RefOperand, operand: Operand): Operand {
  const inside = (part: Operand): Operand => {
    if (part.kind === 'ref' && mayOverlap(bytesOf(part), bytesOf(to)))
      return stackRef(part.layout, write(lowering, node, part.layout, part).address);
    return detached(lowering, node, to, part);
  };
  if (operand.kind === 'list') return { ...operand, items: operand.items.map(inside) };
  if (operand.kind !== 'aggregate' || to.space === 'stack') return operand;
  const fields = new Map<string, Variable>();
  let same = true;
  for (const [name, variable] of operand.fields) {
    const part = lowering.read(variable);
    const taken = part && inside(part);
    const copied: Variable = taken === part ? variable : { name, constant: false };
    if (taken && taken !== part) lowering.write(copied, taken);
    same &&= copied === variable;
    fields.set(name, copied);
  }
  return same ? operand : { ...operand, fields };
}

/** The stored bytes with nothing above them, for a store that covers padding. */
function zeroExtended(lowering: Lowering, operand: Operand, layout: IntLayout, value: Value): Value {
  const fits =
    (operand.kind === 'number' || operand.kind === 'bigint') && operand.range.lo >= 0n && operand.range.hi < 1n << BigInt(8 * layout.size);
  if (fits) return value;
  return lowering.unary(layout.size === 1 ? 'zext8' : layout.size === 2 ? 'zext16' : 'zext32', value);
}

function writeFields(
  lowering: Lowering,
  node: SyntaxNode,
  ref: RefOperand,
  layout: StructLayout,
  parts: ReadonlyMap<string, Operand>,
): void {
  for (const name of parts.keys()) {
    if (!Object.hasOwn(layout.fields, name))
      lowering.fail(node, 'name', `no field '${name}'`, `fields: ${Object.keys(layout.fields).join(', ')}`);
  }
  const fields = Object.entries(layout.fields);
  const zero = (from: number, to: number): void => {
    for (let at = from; at < to; ) {
      const size = chunk(Math.min(to - at, alignment(ref.offset + at)));
      lowering.store(size, ref.space, ref.base, ref.offset + at, lowering.constant(0));
      at += size;
    }
  };
  for (const [i, [name, field]] of fields.entries()) {
    const part = parts.get(name);
    if (!part) return lowering.fail(node, 'type', `field '${name}' is missing`, `fields: ${Object.keys(layout.fields).join(', ')}`);
    const next = fields[i + 1]?.[1].offset ?? layout.size;
    const space = next - field.offset;
    const covered =
      field.layout.kind === 'int' && field.layout.size !== 6 && (ref.offset + field.offset) % chunk(space) === 0
        ? Math.max(chunk(space), field.layout.size)
        : field.layout.size;
    writePlace(lowering, node, { ...ref, layout: field.layout, offset: ref.offset + field.offset }, part, covered);
    zero(field.offset + covered, next);
  }
}

/** The fields of an object literal as they are now, or of a constant object. */
function partsOf(lowering: Lowering, object: AggregateOperand | NamesOperand): ReadonlyMap<string, Operand> {
  if (object.kind === 'names') return object.members;
  return new Map([...object.fields].map(([name, variable]) => [name, lowering.read(variable) ?? { kind: 'undefined' }]));
}

function writeItems(lowering: Lowering, node: SyntaxNode, ref: RefOperand, items: readonly Operand[]): void {
  if (ref.layout.kind !== 'array') return;
  const { item, length } = ref.layout;
  if (items.length !== length) lowering.fail(node, 'type', `an array of ${items.length} where one of ${length} is stored`);
  items.forEach((operand, i) => {
    writePlace(lowering, node, { ...ref, layout: item, offset: ref.offset + i * item.size }, operand);
  });
}

/** The address of an operand's bytes on the stack, for a helper; an unchanged object literal is written once. */
export function onStack(lowering: Lowering, node: SyntaxNode, layout: Layout, operand: Operand): { address: Value; slot: StackSlot } {
  if (operand.kind === 'aggregate') {
    const stored = lowering.read(operand.storage);
    const contents = snapshot(lowering, operand);
    if (
      stored?.kind === 'stored' &&
      stored.layout === layout &&
      sameContents(stored.contents, contents) &&
      stored.address.kind === 'stackAddress'
    ) {
      return { address: stored.address, slot: stored.address.slot };
    }
    const written = write(lowering, node, layout, operand);
    const memo: StoredOperand = { kind: 'stored', layout, address: written.address, contents };
    lowering.write(operand.storage, memo);
    return written;
  }
  return write(lowering, node, layout, operand);
}

/** A place on the stack. */
export function stackRef(layout: Layout, address: Value): RefOperand {
  return { kind: 'ref', layout, base: address, offset: 0, space: 'stack', shared: false, nullable: false };
}

function write(lowering: Lowering, node: SyntaxNode, layout: Layout, operand: Operand): { address: Value; slot: StackSlot } {
  const slot = lowering.slot(layout.size);
  const address = lowering.stackAddress(slot);
  writePlace(lowering, node, stackRef(layout, address), operand);
  return { address, slot };
}

function snapshot(lowering: Lowering, aggregate: AggregateOperand): Operand[] {
  return [...aggregate.fields.values()].flatMap((variable) => {
    const operand = lowering.read(variable) ?? { kind: 'undefined' as const };
    return operand.kind === 'aggregate' ? snapshot(lowering, operand) : [operand];
  });
}

function sameContents(a: readonly Operand[], b: readonly Operand[]): boolean {
  // a reference is copied when it is written: what it refers to may have changed since
  return a.length === b.length && a.every((operand, i) => operand === b[i] && operand.kind !== 'ref');
}
