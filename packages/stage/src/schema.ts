/**
 * Schemas: what a stage's author writes to say how keys, values, headers and arguments look, and the TypeScript types
 * that follow from it. Alignment and padding are C's. Moving bytes is codec.ts.
 */
import { ArgumentError } from '@tailrace/bpf';
import { type BitsView, describeLayout, type IntLayout, type Layout, type StructField, type StructLayout } from './layout.ts';
import type { Checked, Flat, phantom } from './resource.ts';

/** The layout of a value in memory; `T` is what a program and the control plane see. */
export interface Schema<T> {
  readonly layout: Layout;
  readonly [phantom]: T;
}
/** The TypeScript type of a schema's values. */
export type Infer<S> = S extends { readonly [phantom]: infer T } ? T : never;
/** Schemas by name. */
export type Schemas = Readonly<Record<string, Schema<unknown>>>;
/** The values of schemas by name. */
export type Values<F> = { -readonly [K in keyof F]: Infer<F[K]> };

declare const encodable: unique symbol;
/** A struct with views: `T` has them, `Fields` (what is written) does not. */
export interface ViewedSchema<T, Fields> extends Schema<T> {
  readonly [encodable]: Fields;
}
/** What `encode` takes for a schema: its values, of a struct only the fields. */
export type Encodable<S> = S extends { readonly [encodable]: infer F } ? F : Infer<S>;

/** A value in place. Scalars sit in a box, so that `hits.value += 1n` can assign through it. */
export type Ref<V> = V extends object ? V : { value: V };

/** A named look at some bits of the field `Field`, read as `T`. */
export interface View<Field extends string, T> extends BitsView {
  readonly field: Field;
  readonly [phantom]: T;
}
type Views = Readonly<Record<string, View<string, unknown>>>;
type ViewValues<V> = { readonly [K in keyof V]: Infer<V[K]> };
/** Views must look at a field that is there. */
type CheckViews<F, V> = {
  readonly [K in keyof V]: V[K] extends View<infer Field, unknown>
    ? Field extends keyof F
      ? V[K]
      : `there is no field '${Field}'`
    : never;
};

/** Unsigned, 1 byte. */
export const u8: Schema<number> = integer(1);
/** Unsigned, 2 bytes, little endian. */
export const u16: Schema<number> = integer(2);
/** Unsigned, 4 bytes, little endian. */
export const u32: Schema<number> = integer(4);
/** Signed, 4 bytes, little endian. */
export const i32: Schema<number> = integer(4, { signed: true });
/** Unsigned, 8 bytes, little endian; a `bigint`. */
export const u64: Schema<bigint> = integer(8, { bigint: true });
/** Signed, 8 bytes, little endian; a `bigint`. */
export const i64: Schema<bigint> = integer(8, { signed: true, bigint: true });
/** Unsigned, 2 bytes in network order, seen as a host number. */
export const be16: Schema<number> = integer(2, { bigEndian: true });
/** Unsigned, 4 bytes in network order, seen as a host number. */
export const be32: Schema<number> = integer(4, { bigEndian: true });
/** Unsigned, 8 bytes in network order, seen as a host `bigint`. */
export const be64: Schema<bigint> = integer(8, { bigEndian: true, bigint: true });
/** A MAC address: 6 bytes in network order, seen as a number below 2^48; aligned to 2 bytes. */
export const mac: Schema<number> = integer(6, { bigEndian: true, align: 2 });
/** One byte, 0 or 1. */
export const bool: Schema<boolean> = schemaOf({ kind: 'bool', size: 1, align: 1 });
/** No value: what a fn returns that is called for its effect. */
export const nothing: Schema<void> = schemaOf({ kind: 'nothing', size: 0, align: 1 });

/**
 * Fields one behind the other with C's natural alignment and padding; views name bits of a field.
 * Throws ArgumentError on a name that is no C identifier, an empty struct, a field without bytes or a view that does not fit.
 */
export function struct<const F extends Schemas>(fields: F): Schema<Flat<Values<F>>>;
export function struct<const F extends Schemas, const V extends Views>(
  fields: F,
  views: Checked<V, CheckViews<F, V>>,
): ViewedSchema<Flat<Values<F> & ViewValues<V>>, Flat<Values<F>>>;
export function struct(fields: Schemas, views: Views = {}): Schema<unknown> {
  return schemaOf(structLayout(fields, views));
}

/**
 * A struct without padding, aligned to 1: headers whose fields are not naturally aligned. Programs cannot add to its
 * fields atomically. Throws as `struct` does.
 */
export function packed<const F extends Schemas>(fields: F): Schema<Flat<Values<F>>>;
export function packed<const F extends Schemas, const V extends Views>(
  fields: F,
  views: Checked<V, CheckViews<F, V>>,
): ViewedSchema<Flat<Values<F> & ViewValues<V>>, Flat<Values<F>>>;
export function packed(fields: Schemas, views: Views = {}): Schema<unknown> {
  const loose = Object.fromEntries(Object.entries(fields).map(([name, schema]) => [name, aligned(schema, 1)]));
  return schemaOf(structLayout(loose, views));
}

/**
 * The same schema, asking for no more than `align` bytes of alignment (1, 2, 4 or 8): for places that are fixed by a
 * protocol or by the kernel. Only the schema itself moves, not the fields inside it.
 */
export function aligned<T>(schema: Schema<T>, align: number): Schema<T> {
  const { layout } = schema;
  if (![1, 2, 4, 8].includes(align)) throw new ArgumentError(`aligned: align is ${align}, expected 1, 2, 4 or 8`);
  if (align >= layout.align) return schema;
  switch (layout.kind) {
    case 'int':
    case 'struct':
    case 'array':
      return schemaOf({ ...layout, align });
    default:
      throw new ArgumentError(`aligned: a ${layout.kind} cannot be placed with an alignment of ${align}`);
  }
}

/** `length` items. Throws ArgumentError where the length is no positive integer or an item has no bytes. */
export function array<T>(item: Schema<T>, length: number): Schema<{ readonly length: number; [index: number]: T }> {
  if (!Number.isSafeInteger(length) || length < 1) throw new ArgumentError(`array: length is ${length}, expected a positive integer`);
  const { layout } = item;
  if (!hasBytes(layout)) throw new ArgumentError(`array: an item is ${layout.kind}, expected a schema with bytes`);
  if (layout.size % layout.align !== 0)
    throw new ArgumentError(`array: an item takes ${layout.size} bytes, expected a multiple of its alignment ${layout.align}`);
  return schemaOf({ kind: 'array', size: layout.size * length, align: layout.align, item: layout, length });
}

/** A reference into a map value, or `undefined`: what a fn that looks something up returns. */
export function ref<T>(value: Schema<T>): Schema<Ref<T> | undefined> {
  if (!hasBytes(value.layout)) throw new ArgumentError(`ref: the value is ${value.layout.kind}, expected a schema with bytes`);
  return schemaOf({ kind: 'ref', size: 8, align: 8, value: value.layout });
}

/**
 * A view of `width` bits of `field`, from bit `shift` (the least significant is 0), times `scale`.
 * `struct` checks it against the field.
 */
export function bits<const Field extends string>(
  field: Field,
  shift: number,
  width: number,
  options: { readonly scale?: number } = {},
): View<Field, number> {
  return viewOf({ field, shift, width, scale: options.scale ?? 1, bool: false });
}

/** A view of one bit of `field` as a boolean; the least significant bit is 0. */
export function flag<const Field extends string>(field: Field, bit: number): View<Field, boolean> {
  return viewOf({ field, shift: bit, width: 1, scale: 1, bool: true });
}

/** An IPv6 address as two halves, each a `bigint` in host order. */
export const ipv6Address: Schema<{ hi: bigint; lo: bigint }> = struct({ hi: be64, lo: be64 });
/** Key of an LPM trie over IPv4 addresses: 8 bytes. */
export const ipv4Prefix: Schema<{ prefixLen: number; addr: number }> = struct({ prefixLen: u32, addr: be32 });
/**
 * Key of an LPM trie over IPv6 addresses: 20 bytes. The kernel wants the address directly behind the length, at
 * offset 4, so it has an alignment of 4 here where `ipv6Address` has 8.
 */
export const ipv6Prefix: Schema<{ prefixLen: number; addr: { hi: bigint; lo: bigint } }> = struct({
  prefixLen: u32,
  addr: struct({ hi: aligned(be64, 4), lo: aligned(be64, 4) }),
});

/** True for layouts that memory can hold, so neither `nothing` nor `ref`. */
export function hasBytes(layout: Layout): boolean {
  return layout.kind !== 'nothing' && layout.kind !== 'ref';
}

/** The only place that gives a layout its phantom type. */
function schemaOf<T>(layout: Layout): Schema<T> {
  return Object.freeze({ layout: Object.freeze(layout) }) as Schema<T>;
}

function viewOf<Field extends string, T>(view: BitsView & { readonly field: Field }): View<Field, T> {
  return Object.freeze(view) as View<Field, T>;
}

function integer<T extends number | bigint>(
  size: IntLayout['size'],
  options: { readonly signed?: boolean; readonly bigEndian?: boolean; readonly bigint?: boolean; readonly align?: number } = {},
): Schema<T> {
  const { signed = false, bigEndian = false, bigint = false, align = size } = options;
  return schemaOf({ kind: 'int', size, align, signed, bigEndian, bigint });
}

function structLayout(schemas: Schemas, views: Views): StructLayout {
  const fields: Record<string, StructField> = {};
  let offset = 0;
  let align = 1;
  for (const [name, { layout }] of Object.entries(schemas)) {
    checkName(name);
    if (!hasBytes(layout)) throw new ArgumentError(`struct: field '${name}' is ${layout.kind}, expected a schema with bytes`);
    offset = roundUp(offset, layout.align);
    fields[name] = Object.freeze({ layout, offset });
    offset += layout.size;
    align = Math.max(align, layout.align);
  }
  if (offset === 0) throw new ArgumentError('struct: no fields, expected at least one');
  for (const [name, view] of Object.entries(views)) {
    checkName(name);
    if (name in fields) throw new ArgumentError(`struct: '${name}' is a field and a view, expected different names`);
    checkView(name, view, fields[view.field]?.layout);
  }
  const plain = Object.fromEntries(Object.entries(views).map(([name, view]) => [name, Object.freeze({ ...view })]));
  return { kind: 'struct', size: roundUp(offset, align), align, fields: Object.freeze(fields), views: Object.freeze(plain) };
}

function checkName(name: string): void {
  if (!/^[A-Za-z_]\w*$/.test(name)) throw new ArgumentError(`struct: field name '${name}', expected a C identifier`);
}

function checkView(name: string, view: BitsView, field: Layout | undefined): void {
  if (field === undefined) throw new ArgumentError(`struct: view '${name}' looks at '${view.field}', which is no field`);
  if (field.kind !== 'int' || field.signed || field.size > 4)
    throw new ArgumentError(
      `struct: view '${name}' looks at '${view.field}', a ${describeLayout(field)}, expected an unsigned integer of at most 4 bytes`,
    );
  const { shift, width, scale } = view;
  const whole = [shift, width, scale].every(Number.isSafeInteger);
  if (!whole || shift < 0 || width < 1 || width > 31 || shift + width > field.size * 8 || scale < 1)
    throw new ArgumentError(
      `struct: view '${name}' is bits ${shift}..${shift + width - 1} times ${scale}, expected 1 to 31 bits within the ${field.size * 8} of '${view.field}'`,
    );
}

function roundUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}
