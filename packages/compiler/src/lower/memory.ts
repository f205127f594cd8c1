/** Reading and writing memory by layout: fields, elements, whole structs, and object literals on the stack. */
import type { IntLayout, Layout, StructLayout } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { MemorySize, StackSlot, UnaryOp, Value } from '../ir.ts';
import { exactly, isConstant, mayBe, ofInteger, range } from '../range.ts';
import { alignment, chunk, loadBytes, mayOverlap, storeBytes } from './access.ts';
import { packetEnd } from './header.ts';
import type { Lowering } from './lowering.ts';
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
  type View,
} from './operand.ts';
import { packetWritten } from './packet-write.ts';
import { bigint, exact, known, low32 } from './scalar.ts';

const SWAP: Readonly<Record<number, UnaryOp>> = { 2: 'swap16', 4: 'swap32', 8: 'swap64' };

/** Refuses a reference that may be undefined, or that is from before the packet moved. */
export function present(lowering: Lowering, node: SyntaxNode, ref: RefOperand): RefOperand {
  if (ref.nullable)
    lowering.fail(node, 'undefined', `'${lowering.source.textOf(node)}' may be undefined here`, 'test it first: if (!x) return …');
  if (ref.epoch && ref.epoch !== lowering.environment.epoch) {
    const call = lowering.environment.epoch.call ?? 'a call';
    lowering.fail(
      node,
      'stale',
      `'${lowering.source.textOf(node)}' is from before ${call}, which moved the packet`,
      'ask ctx for the header again',
    );
  }
  return ref;
}

/** The value at a reference: a scalar is loaded, a struct or array stays a reference. */
export function readPlace(lowering: Lowering, ref: RefOperand): Operand {
  const { layout } = ref;
  switch (layout.kind) {
    case 'int':
      return lowering.fields.remembered(
        () => lowering.environment,
        ref,
        () => readInteger(lowering, layout, ref),
      );
    case 'bool': {
      const byte = lowering.load(1, ref.space, ref.base, ref.offset);
      const join = lowering.newJoin();
      lowering.branch(
        'ne',
        byte,
        lowering.constant(0),
        () => lowering.jump(join, { kind: 'boolean', value: lowering.constant(1) }),
        () => lowering.jump(join, { kind: 'boolean', value: lowering.constant(0) }),
      );
      return lowering.enter(join) as Operand;
    }
    default:
      return ref;
  }
}

function readInteger(lowering: Lowering, layout: IntLayout, ref: RefOperand): Operand {
  const { size, signed, bigEndian } = layout;
  const within = ofInteger(size, signed);
  if (size === 6) {
    const head = loadBytes(lowering, 4, ref);
    const tail = loadBytes(lowering, 2, ref, 4);
    const joined = lowering.binary('or', head, lowering.binary('lsh', tail, lowering.constant(32)));
    const value = lowering.binary('rsh', lowering.unary('swap64', joined), lowering.constant(16));
    return { kind: 'number', range: within, exact: value, raw: { size: 6, parts: [head, tail] } };
  }
  const loaded = loadBytes(lowering, size, ref);
  const swap = bigEndian ? SWAP[size] : undefined;
  const host = swap ? lowering.unary(swap, loaded) : loaded;
  const raw = swap ? { raw: { size, parts: [loaded] } } : {};
  if (layout.bigint) return { kind: 'bigint', range: within, value: host, ...raw };
  if (signed)
    return size === 4
      ? { kind: 'number', range: within, low: host, exact: lowering.unary('sext32', host) }
      : known(lowering, lowering.unary(size === 1 ? 'sext8' : 'sext16', host), within);
  return { kind: 'number', range: within, exact: host, ...raw };
}

/** A view's value out of its field. */
export function readView(lowering: Lowering, layout: StructLayout, ref: RefOperand, view: View): Operand {
  const field = layout.fields[view.field] as StructLayout['fields'][string];
  const bits = (1n << BigInt(view.width)) - 1n;
  const whole = readPlace(lowering, { ...ref, layout: field.layout, offset: ref.offset + field.offset }) as NumberOperand;
  const value = exact(lowering, whole);
  if (view.bool) {
    const join = lowering.newJoin();
    const wanted = lowering.constant(bits << BigInt(view.shift));
    lowering.branch(
      'set',
      value,
      wanted,
      () => lowering.jump(join, { kind: 'boolean', value: lowering.constant(1) }),
      () => lowering.jump(join, { kind: 'boolean', value: lowering.constant(0) }),
    );
    return lowering.enter(join) as Operand;
  }
  const shifted = view.shift === 0 ? value : lowering.binary('rsh', value, lowering.constant(view.shift), 32);
  const masked = lowering.binary('and', shifted, lowering.constant(bits), 32);
  if (view.scale === 1) return { kind: 'number', range: range(0n, bits), exact: masked, low: masked };
  return {
    kind: 'number',
    range: range(0n, bits * BigInt(view.scale)),
    exact: lowering.binary('mul', masked, lowering.constant(view.scale), 32),
  };
}

/** The boolean view as a condition, without making a value of it. */
export function viewCondition(lowering: Lowering, layout: StructLayout, ref: RefOperand, view: View): { value: Value; mask: Value } {
  const field = layout.fields[view.field] as StructLayout['fields'][string];
  const whole = readPlace(lowering, { ...ref, layout: field.layout, offset: ref.offset + field.offset }) as NumberOperand;
  return { value: exact(lowering, whole), mask: lowering.constant(((1n << BigInt(view.width)) - 1n) << BigInt(view.shift)) };
}

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
      if (operand.kind === 'aggregate' || operand.kind === 'names') return writeFields(lowering, node, ref, layout, operand);
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
  copy(lowering, from, ref);
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
  object: AggregateOperand | NamesOperand,
): void {
  const parts = partsOf(lowering, object);
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

/** Layouts that hold the same values in the same bytes. */
export function sameLayout(a: Layout, b: Layout): boolean {
  if (a === b) return true;
  if (a.kind !== b.kind || a.size !== b.size) return false;
  if (a.kind === 'int' && b.kind === 'int') return a.signed === b.signed && a.bigEndian === b.bigEndian && a.bigint === b.bigint;
  if (a.kind === 'array' && b.kind === 'array') return a.length === b.length && sameLayout(a.item, b.item);
  if (a.kind === 'struct' && b.kind === 'struct') {
    const names = Object.keys(a.fields);
    return (
      names.length === Object.keys(b.fields).length &&
      names.every((n) => {
        const left = a.fields[n];
        const right = b.fields[n];
        return left && right && left.offset === right.offset && sameLayout(left.layout, right.layout);
      })
    );
  }
  return true;
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

/** A place one field or element on. */
export function member(ref: RefOperand, layout: Layout, offset: number): RefOperand {
  const { position: _position, ...rest } = ref;
  return { ...rest, layout, offset: ref.offset + offset };
}

/** The element at an index; a constant index is an offset, any other must be proven to lie within. */
export function element(lowering: Lowering, node: SyntaxNode, ref: RefOperand, index: Operand): RefOperand {
  const { layout } = ref;
  if (layout.kind !== 'array') return lowering.fail(node, 'type', 'only arrays have elements');
  if (index.kind !== 'number')
    return lowering.fail(node, 'type', `${describe(index)} as an index`, index.kind === 'bigint' ? 'use Number(x)' : undefined);
  if (index.range.lo < 0n || index.range.hi >= BigInt(layout.length)) {
    lowering.fail(
      node,
      'range',
      `the index ${mayBe(index.range)}; the array has ${layout.length} elements`,
      node.type === 'MemberExpression' && ref.space !== 'packet'
        ? `keep it in a const and compare that with ${layout.length}, or mask it`
        : `compare it with ${layout.length} first, or mask it`,
    );
  }
  if (isConstant(index.range)) return member(ref, layout.item, Number(index.range.lo) * layout.item.size);
  const at = guarded(lowering, exact(lowering, index), layout.length);
  const distance = layout.item.size === 1 ? at : lowering.binary('mul', at, lowering.constant(layout.item.size));
  const base = lowering.advance(ref.base, distance, ref.space);
  if (ref.space === 'packet') checkedAgain(lowering, base, ref.offset + layout.item.size);
  return { ...member(ref, layout.item, 0), base };
}

/** The verifier forgets what it knew of a packet pointer when a variable is added: it is told once more. */
function checkedAgain(lowering: Lowering, pointer: Value, size: number): void {
  const join = lowering.newJoin();
  lowering.check(
    pointer,
    size,
    packetEnd(lowering),
    () => lowering.jump(join),
    () => lowering.return(lowering.constant(0)),
  );
  lowering.enter(join);
}

/** The verifier follows masks, shifts and comparisons but not remainders: those are compared once more. */
function guarded(lowering: Lowering, index: Value, length: number): Value {
  if (!hidden(index, 8)) return index;
  const join = lowering.newJoin();
  lowering.branch(
    'lt',
    index,
    lowering.constant(length),
    () => lowering.jump(join),
    () => lowering.return(lowering.constant(0)),
    'then',
  );
  lowering.enter(join);
  return index;
}

function hidden(value: Value, depth: number): boolean {
  if (depth === 0) return true;
  switch (value.kind) {
    case 'const':
    case 'load':
      return false;
    case 'unary':
      return hidden(value.operand, depth - 1);
    case 'binary':
      if (value.op === 'and' && value.right.kind === 'const') return false;
      return (
        value.op === 'mod' || value.op === 'div' || value.op === 'mul' || hidden(value.left, depth - 1) || hidden(value.right, depth - 1)
      );
    case 'phi':
      return value.inputs.some((i) => hidden(i, depth - 1));
    default:
      return true;
  }
}

/** Bits of a bigint that is stored: none are lost. */
export function bigintOf(lowering: Lowering, value: bigint): BigintOperand {
  return bigint(lowering, lowering.constant(value), exactly(value));
}
