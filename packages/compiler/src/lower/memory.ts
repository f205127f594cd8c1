/** Reading memory by layout: fields, elements, views; and the places of members. */
import type { IntLayout, Layout, StructLayout } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { exactly, isConstant, mayBe, ofInteger, range } from '../range.ts';
import { loadBytes, SWAP } from './access.ts';
import { packetEnd } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { type BigintOperand, describe, type NumberOperand, type Operand, type RefOperand, type View } from './operand.ts';
import { bigint, exact, known } from './scalar.ts';

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
  if (ref.space === 'skb')
    lowering.fail(node, 'memory', 'an array among the metadata of TC has constant indices only', 'compare the index with each constant');
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
    () => lowering.return(lowering.constant(lowering.hook.lost)),
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
    () => lowering.return(lowering.constant(lowering.hook.lost)),
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
