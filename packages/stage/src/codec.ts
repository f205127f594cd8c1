/**
 * Values to bytes and back, by layout. A layout is compiled once into a pair of closures; values of one schema then
 * move without asking again what they are. Fields named `be…` are big-endian, all others little-endian, and padding is
 * written as zeros: the kernel compares and hashes keys by all of their bytes.
 */
import { ArgumentError } from '@tailrace/bpf';
import type { ArrayLayout, BitsView, IntLayout, Layout, StructLayout } from './layout.ts';
import type { Encodable, Infer, Schema } from './schema.ts';

/** The bytes of a value. Throws ArgumentError that names the place in `value`, e.g. `value.addr: expected 0..255, got -1`. */
export function encode<S extends Schema<unknown>>(schema: S, value: Encodable<S>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(schema.layout.size);
  encodeInto(schema.layout, value, new DataView(bytes.buffer), 0);
  return bytes;
}

/** The value that `bytes` start with. Throws ArgumentError where there are too few. */
export function decode<S extends Schema<unknown>>(schema: S, bytes: Uint8Array): Infer<S> {
  const { size } = schema.layout;
  if (bytes.length < size) throw new ArgumentError(`decode: ${bytes.length} bytes, expected at least ${size}`);
  return decodeFrom(schema.layout, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0) as Infer<S>;
}

/**
 * Writes a value's `layout.size` bytes at `offset`. Throws ArgumentError as `encode` does, where `subject` is what the
 * message calls the value; some bytes may be written by then.
 */
export function encodeInto(layout: Layout, value: unknown, view: DataView, offset: number, subject = 'value'): void {
  try {
    codecOf(layout).write(view, offset, value);
  } catch (error) {
    if (error instanceof Mismatch) throw new ArgumentError(`${subject}${error.path}: ${error.message}`);
    throw error;
  }
}

/** Reads the value at `offset`; of a struct with its views. Throws RangeError past the end of `view`. */
export function decodeFrom(layout: Layout, view: DataView, offset: number): unknown {
  return codecOf(layout).read(view, offset);
}

/** What `decodeFrom` does for one layout. */
export function readerOf(layout: Layout): (view: DataView, offset: number) => unknown {
  return codecOf(layout).read;
}

/** A compiled layout. */
interface Codec {
  readonly write: (view: DataView, at: number, value: unknown) => void;
  readonly read: (view: DataView, at: number) => unknown;
}

const compiled = new WeakMap<Layout, Codec>();

function codecOf(layout: Layout): Codec {
  let codec = compiled.get(layout);
  if (codec === undefined) {
    codec = compile(layout);
    compiled.set(layout, codec);
  }
  return codec;
}

/** A value that its layout cannot hold; each struct and array on the way out adds its step to the path. */
class Mismatch extends ArgumentError {
  path = '';

  constructor(expected: string, got: unknown) {
    super(`expected ${expected}, got ${show(got)}`);
  }
}

function within(error: unknown, step: string): unknown {
  if (error instanceof Mismatch) error.path = step + error.path;
  return error;
}

function compile(layout: Layout): Codec {
  switch (layout.kind) {
    case 'int':
      return layout.bigint ? bigintCodec(layout) : numberCodec(layout);
    case 'bool':
      return { write: writeBool, read: (view, at) => view.getUint8(at) !== 0 };
    case 'struct':
      return structCodec(layout);
    case 'array':
      return arrayCodec(layout);
    case 'nothing':
      return { write: () => undefined, read: () => undefined };
    case 'ref':
      throw new ArgumentError('a ref lives in a program only, expected a schema with bytes');
  }
}

function writeBool(view: DataView, at: number, value: unknown): void {
  if (typeof value !== 'boolean') throw new Mismatch('a boolean', value);
  view.setUint8(at, value ? 1 : 0);
}

function numberCodec({ size, signed, bigEndian }: IntLayout): Codec {
  const min = signed ? -(2 ** (size * 8 - 1)) : 0;
  const max = 2 ** (size * 8 - (signed ? 1 : 0)) - 1;
  const { set, get } = numberAccess(size, signed, !bigEndian);
  return {
    write(view, at, value) {
      if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) throw new Mismatch(`${min}..${max}`, value);
      set(view, at, value);
    },
    read: get,
  };
}

interface NumberAccess {
  readonly set: (view: DataView, at: number, value: number) => void;
  readonly get: (view: DataView, at: number) => number;
}

function numberAccess(size: IntLayout['size'], signed: boolean, little: boolean): NumberAccess {
  switch (size) {
    case 1:
      return signed
        ? { set: (view, at, value) => view.setInt8(at, value), get: (view, at) => view.getInt8(at) }
        : { set: (view, at, value) => view.setUint8(at, value), get: (view, at) => view.getUint8(at) };
    case 2:
      return signed
        ? { set: (view, at, value) => view.setInt16(at, value, little), get: (view, at) => view.getInt16(at, little) }
        : { set: (view, at, value) => view.setUint16(at, value, little), get: (view, at) => view.getUint16(at, little) };
    case 4:
      return signed
        ? { set: (view, at, value) => view.setInt32(at, value, little), get: (view, at) => view.getInt32(at, little) }
        : { set: (view, at, value) => view.setUint32(at, value, little), get: (view, at) => view.getUint32(at, little) };
    case 6:
      return sixBytes;
    case 8:
      throw new ArgumentError('an integer of 8 bytes is a bigint, expected at most 6 bytes for a number');
  }
}

/** A MAC address: the only integer of 6 bytes, big-endian and unsigned. */
const sixBytes: NumberAccess = {
  set(view, at, value) {
    view.setUint16(at, Math.floor(value / 2 ** 32));
    view.setUint32(at + 2, value % 2 ** 32);
  },
  get: (view, at) => view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2),
};

function bigintCodec({ signed, bigEndian }: IntLayout): Codec {
  const little = !bigEndian;
  const [min, max] = signed ? [-(2n ** 63n), 2n ** 63n - 1n] : [0n, 2n ** 64n - 1n];
  return {
    write(view, at, value) {
      if (typeof value !== 'bigint' || value < min || value > max) throw new Mismatch(`${min}n..${max}n`, value);
      view.setBigUint64(at, value, little);
    },
    read: signed ? (view, at) => view.getBigInt64(at, little) : (view, at) => view.getBigUint64(at, little),
  };
}

function structCodec(layout: StructLayout): Codec {
  const fields = Object.entries(layout.fields).map(([name, { layout: field, offset }]) => ({ name, offset, ...codecOf(field) }));
  const views = Object.entries(layout.views).map(([name, view]) => ({ name, field: view.field, extract: extractor(view) }));
  const padding = paddingOf(layout);
  return {
    write(view, at, value) {
      if (typeof value !== 'object' || value === null) throw new Mismatch('an object', value);
      const record = value as Readonly<Record<string, unknown>>;
      for (const byte of padding) view.setUint8(at + byte, 0);
      for (const { name, offset, write } of fields) {
        try {
          write(view, at + offset, record[name]);
        } catch (error) {
          throw within(error, `.${name}`);
        }
      }
    },
    read(view, at) {
      const record: Record<string, unknown> = {};
      for (const { name, offset, read } of fields) record[name] = read(view, at + offset);
      for (const { name, field, extract } of views) record[name] = extract(record[field] as number);
      return record;
    },
  };
}

function extractor({ shift, width, scale, bool }: BitsView): (value: number) => number | boolean {
  const mask = 2 ** width - 1;
  return bool ? (value) => ((value >>> shift) & mask) !== 0 : (value) => ((value >>> shift) & mask) * scale;
}

/** Offsets of the bytes that no field covers. */
function paddingOf({ size, fields }: StructLayout): readonly number[] {
  const covered = new Set<number>();
  for (const { layout, offset } of Object.values(fields)) for (let i = 0; i < layout.size; i++) covered.add(offset + i);
  return Array.from({ length: size }, (_, byte) => byte).filter((byte) => !covered.has(byte));
}

function arrayCodec({ item, length }: ArrayLayout): Codec {
  const { write, read } = codecOf(item);
  const stride = item.size;
  return {
    write(view, at, value) {
      if (!isList(value)) throw new Mismatch(`${length} items`, value);
      if (value.length !== length) throw new Mismatch(`${length} items`, value.length);
      for (let i = 0; i < length; i++) {
        try {
          write(view, at + i * stride, value[i]);
        } catch (error) {
          throw within(error, `[${i}]`);
        }
      }
    },
    read(view, at) {
      const items: unknown[] = [];
      for (let i = 0; i < length; i++) items.push(read(view, at + i * stride));
      return items;
    },
  };
}

function isList(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && 'length' in value);
}

function show(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'string') return JSON.stringify(value);
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
