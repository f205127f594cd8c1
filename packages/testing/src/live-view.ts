/**
 * Memory as a program sees it: structs as objects whose properties read and write the bytes in place, scalars as
 * values, both by layout. Writes wrap as typed arrays do, where codec.ts of the stage package refuses; what the
 * compiler refuses by type throws SimulationError here.
 */
import { type ErrorOptions, TailraceError } from '@tailrace/bpf';
import { type BitsView, describeLayout, type IntLayout, type Layout, type StructLayout } from '@tailrace/stage';

/** A program did what the compiler refuses, or what has no meaning in a simulation. */
export class SimulationError extends TailraceError {
  constructor(message: string, options?: ErrorOptions) {
    super('compile', message, options);
  }
}

/** Where a value lies. */
export interface Place {
  readonly memory: DataView;
  readonly offset: number;
  /** Throws where the place must not be used any more. */
  readonly check?: () => void;
}

/** Where live objects lie, and how. */
const places = new WeakMap<object, { readonly layout: Layout; readonly place: Place }>();

/** The place of an object that `readPlace` or `refTo` gave; undefined for any other value. */
export function placeOf(value: unknown): { readonly layout: Layout; readonly place: Place } | undefined {
  return typeof value === 'object' && value !== null ? places.get(value) : undefined;
}

/** What `lookup` gives for a value: a struct or array in place, a scalar as `.value` of a box. */
export function refTo(layout: Layout, place: Place): unknown {
  if (layout.kind === 'struct' || layout.kind === 'array') return readPlace(layout, place);
  return live({ value: { layout, offset: 0 } }, {}, layout, place);
}

/** The value at a place: a scalar as it is now, a struct or array in place. */
export function readPlace(layout: Layout, place: Place): unknown {
  place.check?.();
  switch (layout.kind) {
    case 'int':
      return readInteger(layout, place);
    case 'bool':
      return place.memory.getUint8(place.offset) !== 0;
    case 'struct':
      return live(layout.fields, layout.views, layout, place);
    case 'array':
      return liveArray(layout.item, layout.length, layout, place);
    default:
      throw new SimulationError(`a ${layout.kind} has no place in memory`);
  }
}

/**
 * Writes a value: scalars wrap to their size; objects are copied field by field with zeros as padding, also live ones:
 * what a packet has between two fields is no part of the value.
 */
export function writePlace(layout: Layout, place: Place, value: unknown): void {
  place.check?.();
  placeOf(value)?.place.check?.();
  if (layout.kind === 'int') writeInteger(layout, place, value);
  else if (layout.kind === 'struct') writeStruct(layout, place, value);
  else if (layout.kind === 'array') writeArray(layout.item, layout.length, place, value);
  else if (layout.kind === 'bool' && typeof value === 'boolean') place.memory.setUint8(place.offset, value ? 1 : 0);
  else throw mismatch(layout, value);
}

/** The bytes that a value has in memory of its own, e.g. as a key. */
export function bytesOf(layout: Layout, value: unknown): Uint8Array {
  const bytes = new Uint8Array(layout.size);
  writePlace(layout, { memory: new DataView(bytes.buffer), offset: 0 }, value);
  return bytes;
}

/** Whether two values have the same fields; padding does not count. */
export function sameValues(layout: Layout, a: unknown, b: unknown): boolean {
  const [left, right] = [a, b].map((value) => readPlace(layout, { memory: new DataView(bytesOf(layout, value).buffer), offset: 0 }));
  return sameParts(layout, left, right);
}

function sameParts(layout: Layout, left: unknown, right: unknown): boolean {
  if (layout.kind === 'struct')
    return Object.entries(layout.fields).every(([name, field]) => sameParts(field.layout, memberOf(left, name), memberOf(right, name)));
  if (layout.kind === 'array')
    return Array.from({ length: layout.length }, (_, i) => i).every((i) => sameParts(layout.item, memberOf(left, i), memberOf(right, i)));
  return left === right;
}

/** An object with a live property for each field, and read-only ones for views; unknown names throw in strict code. */
function live(fields: StructLayout['fields'], views: StructLayout['views'], layout: Layout, place: Place): object {
  const object = {};
  places.set(object, { layout, place });
  for (const [name, field] of Object.entries(fields)) {
    const at: Place = { ...place, offset: place.offset + field.offset };
    Object.defineProperty(object, name, {
      enumerable: true,
      get: () => readPlace(field.layout, at),
      set: (value: unknown) => writePlace(field.layout, at, value),
    });
  }
  for (const [name, view] of Object.entries(views)) {
    Object.defineProperty(object, name, { enumerable: true, get: () => extract(view, memberOf(object, view.field)) });
  }
  return Object.preventExtensions(object);
}

function extract({ shift, width, scale, bool }: BitsView, whole: unknown): number | boolean {
  const bits = (Number(whole) >>> shift) & (2 ** width - 1);
  return bool ? bits !== 0 : bits * scale;
}

function liveArray(item: Layout, length: number, layout: Layout, place: Place): object {
  const at = (index: number): Place => {
    if (index >= length) throw new SimulationError(`element ${index} of an array of ${length}`);
    return { ...place, offset: place.offset + index * item.size };
  };
  const indexOf = (name: string | symbol): number | undefined =>
    typeof name === 'string' && /^\d+$/.test(name) ? Number(name) : undefined;
  const proxy: object = new Proxy(Object.preventExtensions({}), {
    get(_target, name) {
      const index = indexOf(name);
      if (index !== undefined) return readPlace(item, at(index));
      return name === 'length' ? length : undefined;
    },
    set(_target, name, value: unknown) {
      const index = indexOf(name);
      if (index === undefined) return false;
      writePlace(item, at(index), value);
      return true;
    },
  });
  places.set(proxy, { layout, place });
  return proxy;
}

function writeStruct(layout: StructLayout, place: Place, value: unknown): void {
  if (typeof value !== 'object' || value === null) throw mismatch(layout, value);
  // The value may lie in the bytes that are overwritten: take all of it first.
  const parts = Object.entries(layout.fields).map(([name, field]) => ({
    field,
    bytes: bytesOf(field.layout, required(value, name, layout)),
  }));
  bytesAt(place, layout.size).fill(0);
  for (const { field, bytes } of parts) bytesAt({ ...place, offset: place.offset + field.offset }, bytes.length).set(bytes);
}

function writeArray(item: Layout, length: number, place: Place, value: unknown): void {
  if (typeof value !== 'object' || value === null || memberOf(value, 'length') !== length)
    throw new SimulationError(`an array of ${length} is written with something else`);
  const parts = Array.from({ length }, (_, index) => bytesOf(item, memberOf(value, index)));
  for (const [index, bytes] of parts.entries()) bytesAt({ ...place, offset: place.offset + index * item.size }, item.size).set(bytes);
}

function required(value: object, name: string, layout: Layout): unknown {
  if (!(name in value)) throw new SimulationError(`field '${name}' of ${describeLayout(layout)} is missing`);
  return memberOf(value, name);
}

function memberOf(value: unknown, name: string | number): unknown {
  return (value as Readonly<Record<string | number, unknown>>)[name];
}

function bytesAt({ memory, offset }: Place, size: number): Uint8Array {
  return new Uint8Array(memory.buffer, memory.byteOffset + offset, size);
}

function readInteger({ size, signed, bigEndian, bigint }: IntLayout, { memory, offset }: Place): number | bigint {
  const bits = 8 * size;
  let value = 0n;
  for (let index = 0; index < size; index++) {
    const byte = memory.getUint8(offset + (bigEndian ? index : size - 1 - index));
    value = (value << 8n) | BigInt(byte);
  }
  const exact = signed ? BigInt.asIntN(bits, value) : value;
  return bigint ? exact : Number(exact);
}

function writeInteger(layout: IntLayout, { memory, offset }: Place, value: unknown): void {
  const { size, bigEndian, bigint } = layout;
  if (typeof value !== (bigint ? 'bigint' : 'number') || (typeof value === 'number' && !Number.isSafeInteger(value)))
    throw mismatch(layout, value);
  let rest = BigInt.asUintN(8 * size, BigInt(value as number | bigint));
  for (let index = 0; index < size; index++) {
    memory.setUint8(offset + (bigEndian ? size - 1 - index : index), Number(rest & 0xffn));
    rest >>= 8n;
  }
}

function mismatch(layout: Layout, value: unknown): SimulationError {
  const shown = typeof value === 'bigint' ? `${value}n` : typeof value === 'object' && value !== null ? 'an object' : String(value);
  return new SimulationError(`${shown} is written to a ${describeLayout(layout)}`);
}
