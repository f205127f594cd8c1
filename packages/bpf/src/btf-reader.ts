/**
 * A reader of BTF, the kernel's type format (Documentation/bpf/btf.rst): every kind up to enum64. The blob's records are
 * walked once; a type is decoded when it is asked for, since the kernel's own blob has over 100,000. Little endian.
 */
import { BtfKind, type BtfTypeId } from './btf.ts';
import { ByteReader } from './byte-reader.ts';

/** A member of a struct or union. */
export interface BtfField {
  /** Empty: an anonymous struct or union, whose members are members of this one. */
  readonly name: string;
  readonly type: BtfTypeId;
  /** Bits from the struct's start. */
  readonly bitOffset: number;
  /** Bits of a bit field; 0 for others. */
  readonly bits: number;
}

/** A type. Names are empty where there is none. */
export type BtfType =
  | { readonly kind: 'void'; readonly name: '' }
  | {
      readonly kind: 'int';
      readonly name: string;
      readonly bytes: number;
      readonly signed: boolean;
      readonly bitOffset: number;
      readonly bits: number;
    }
  | { readonly kind: 'ptr' | 'typedef' | 'volatile' | 'const' | 'restrict' | 'typeTag'; readonly name: string; readonly type: BtfTypeId }
  | { readonly kind: 'array'; readonly name: ''; readonly element: BtfTypeId; readonly index: BtfTypeId; readonly length: number }
  | { readonly kind: 'struct' | 'union'; readonly name: string; readonly bytes: number; readonly members: readonly BtfField[] }
  | {
      readonly kind: 'enum' | 'enum64';
      readonly name: string;
      readonly bytes: number;
      readonly signed: boolean;
      readonly values: readonly BtfEnumValue[];
    }
  | { readonly kind: 'fwd'; readonly name: string; readonly of: 'struct' | 'union' }
  | { readonly kind: 'func' | 'var'; readonly name: string; readonly type: BtfTypeId; readonly linkage: number }
  | {
      readonly kind: 'funcProto';
      readonly name: '';
      readonly returns: BtfTypeId;
      readonly parameters: readonly { readonly name: string; readonly type: BtfTypeId }[];
    }
  | {
      readonly kind: 'datasec';
      readonly name: string;
      readonly bytes: number;
      readonly variables: readonly { readonly type: BtfTypeId; readonly offset: number; readonly size: number }[];
    }
  | { readonly kind: 'float'; readonly name: string; readonly bytes: number }
  | { readonly kind: 'declTag'; readonly name: string; readonly type: BtfTypeId; readonly component: number };

/** One name of an enum. */
export interface BtfEnumValue {
  readonly name: string;
  readonly value: bigint;
}

const MAGIC = 0xeb9f;
const RECORD_BYTES = 12;
const KINDS: ReadonlyMap<number, BtfKind> = new Map((Object.keys(BtfKind) as BtfKind[]).map((kind) => [BtfKind[kind], kind]));
/** Bytes behind a record: of each of its parts, or once. */
const PART_BYTES: Readonly<Partial<Record<BtfKind, number>>> = { struct: 12, union: 12, enum: 8, funcProto: 8, datasec: 12, enum64: 12 };
const TAIL_BYTES: Readonly<Partial<Record<BtfKind, number>>> = { int: 4, array: 12, var: 4, declTag: 4 };
/** Types on the way through typedefs and qualifiers, and arrays in arrays: more are taken for a circle. */
const MAX_DEPTH = 64;
/** The longest source line in the table of strings. */
const MAX_STRING = 1 << 16;
const VOID: BtfType = { kind: 'void', name: '' };

/** Reads a blob: an object's `.BTF`, or the kernel's /sys/kernel/btf/vmlinux. Throws ElfError that names `section`. */
export function readBtf(bytes: Uint8Array, section = '.BTF'): Btf {
  const blob = new ByteReader(section, bytes);
  if (blob.u16(0) === 0x9feb) throw blob.fault('big-endian BTF, expected little endian', 0);
  if (blob.u16(0) !== MAGIC) throw blob.fault('no BTF', 0);
  if (blob.u8(2) !== 1) throw blob.fault(`BTF of version ${blob.u8(2)}, expected 1`, 2);
  const [header, typesAt, typesLength, stringsAt, stringsLength] = [4, 8, 12, 16, 20].map((at) => blob.u32(at)) as [
    number,
    number,
    number,
    number,
    number,
  ];
  if (header < 24) throw blob.fault(`a BTF header of ${header} bytes, expected 24 or more`, 4);
  const types = new ByteReader(`${section} types`, blob.slice(header + typesAt, typesLength));
  const strings = new ByteReader(`${section} strings`, blob.slice(header + stringsAt, stringsLength));
  const places: number[] = [0];
  for (let at = 0; at < typesLength; ) {
    const kind = kindAt(types, at);
    places.push(at);
    at += RECORD_BYTES + (types.u32(at + 4) & 0xffff) * (PART_BYTES[kind] ?? 0) + (TAIL_BYTES[kind] ?? 0);
    if (at > typesLength) throw types.fault(`type ${places.length - 1} is cut off at ${typesLength}`, places.at(-1));
  }
  return new Btf(types, strings, places);
}

function kindAt(types: ByteReader, at: number): BtfKind {
  const number = (types.u32(at + 4) >>> 24) & 0x1f;
  const kind = KINDS.get(number);
  if (kind === undefined) throw types.fault(`a type of kind ${number}, expected 1 to 19`, at);
  return kind;
}

/** The types of one blob. All methods throw ElfError. */
export class Btf {
  readonly #types: ByteReader;
  readonly #strings: ByteReader;
  readonly #places: readonly number[];
  readonly #decoded: (BtfType | undefined)[] = [VOID];
  #names: ReadonlyMap<string, readonly BtfTypeId[]> | undefined;

  /** For readBtf: the records, the strings, and where each type's record starts. */
  constructor(types: ByteReader, strings: ByteReader, places: readonly number[]) {
    this.#types = types;
    this.#strings = strings;
    this.#places = places;
  }

  /** Types, void counted: ids are below. */
  get length(): number {
    return this.#places.length;
  }

  /** A type by its id. */
  type(id: BtfTypeId): BtfType {
    const known = this.#decoded[id];
    if (known) return known;
    const at = this.#places[id];
    if (at === undefined) throw this.#types.fault(`type ${id}, expected 0 to ${this.length - 1}`);
    const type = this.#decode(at);
    this.#decoded[id] = type;
    return type;
  }

  /** A string by its offset. */
  string(offset: number): string {
    return offset === 0 ? '' : this.#strings.text(offset, MAX_STRING);
  }

  /** Follows typedefs, qualifiers and type tags: the type's id that they lead to. */
  resolve(id: BtfTypeId): BtfTypeId {
    let at = id;
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      const type = this.type(at);
      if (
        type.kind !== 'typedef' &&
        type.kind !== 'volatile' &&
        type.kind !== 'const' &&
        type.kind !== 'restrict' &&
        type.kind !== 'typeTag'
      )
        return at;
      at = type.type;
    }
    throw this.#types.fault(`type ${id} is a circle of typedefs`, this.#places[id]);
  }

  /** The type behind typedefs, qualifiers and type tags. */
  resolved(id: BtfTypeId): BtfType {
    return this.type(this.resolve(id));
  }

  /** Bytes of a type; pointers take 8. */
  size(id: BtfTypeId): number {
    let count = 1;
    let at = id;
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      const type = this.resolved(at);
      if (type.kind === 'array') {
        count *= type.length;
        at = type.element;
        continue;
      }
      const bytes = type.kind === 'ptr' ? 8 : 'bytes' in type ? type.bytes : undefined;
      if (bytes === undefined) throw this.#types.fault(`type ${id} (${type.kind}) has no size`, this.#places[id]);
      if (bytes * count > 0xffff_ffff) throw this.#types.fault(`type ${id} is larger than 4 GiB`, this.#places[id]);
      return bytes * count;
    }
    throw this.#types.fault(`type ${id} is a circle of arrays`, this.#places[id]);
  }

  /** Types whose name, without what follows three underscores, is this one. */
  named(name: string): readonly BtfTypeId[] {
    this.#names ??= this.#index();
    return this.#names.get(essentialName(name)) ?? [];
  }

  /** A type's record as it is, for copies. */
  record(id: BtfTypeId): Uint32Array {
    const at = this.#places[id];
    if (at === undefined || id === 0) throw this.#types.fault(`type ${id}, expected 1 to ${this.length - 1}`);
    const end = this.#places[id + 1] ?? this.#types.length;
    return Uint32Array.from({ length: (end - at) / 4 }, (_, word) => this.#types.u32(at + word * 4));
  }

  #index(): ReadonlyMap<string, readonly BtfTypeId[]> {
    const names = new Map<string, BtfTypeId[]>();
    for (let id = 1; id < this.length; id++) {
      const name = essentialName(this.string(this.#types.u32(this.#places[id] ?? 0)));
      const ids = names.get(name);
      if (ids) ids.push(id);
      else if (name !== '') names.set(name, [id]);
    }
    return names;
  }

  /** struct btf_type at `at`, and what follows it. */
  #decode(at: number): BtfType {
    const types = this.#types;
    const [nameAt, info, third] = [types.u32(at), types.u32(at + 4), types.u32(at + 8)];
    const kind = kindAt(types, at);
    const flag = info >>> 31 === 1;
    const parts = <T>(bytes: number, read: (place: number) => T) =>
      Array.from({ length: info & 0xffff }, (_, index) => read(at + RECORD_BYTES + index * bytes));
    const name = this.string(nameAt);
    const tail = at + RECORD_BYTES;
    switch (kind) {
      case 'int': {
        const word = types.u32(tail);
        return { kind, name, bytes: third, signed: (word & (1 << 24)) !== 0, bitOffset: (word >>> 16) & 0xff, bits: word & 0xff };
      }
      case 'array':
        return { kind, name: '', element: types.u32(tail), index: types.u32(tail + 4), length: types.u32(tail + 8) };
      case 'struct':
      case 'union': {
        const members = parts(12, (place) => {
          const offset = types.u32(place + 8);
          const [bitOffset, bits] = flag ? [offset & 0xff_ffff, offset >>> 24] : [offset, 0];
          return { name: this.string(types.u32(place)), type: types.u32(place + 4), bitOffset, bits };
        });
        return { kind, name, bytes: third, members };
      }
      case 'enum': {
        const value = (place: number) => BigInt(flag ? types.i32(place + 4) : types.u32(place + 4));
        return {
          kind,
          name,
          bytes: third,
          signed: flag,
          values: parts(8, (place) => ({ name: this.string(types.u32(place)), value: value(place) })),
        };
      }
      case 'enum64': {
        const high = (place: number) => BigInt(flag ? types.i32(place + 8) : types.u32(place + 8));
        const value = (place: number) => (high(place) << 32n) | BigInt(types.u32(place + 4));
        return {
          kind,
          name,
          bytes: third,
          signed: flag,
          values: parts(12, (place) => ({ name: this.string(types.u32(place)), value: value(place) })),
        };
      }
      case 'fwd':
        return { kind, name, of: flag ? 'union' : 'struct' };
      case 'func':
        return { kind, name, type: third, linkage: info & 0xffff };
      case 'var':
        return { kind, name, type: third, linkage: types.u32(tail) };
      case 'funcProto':
        return {
          kind,
          name: '',
          returns: third,
          parameters: parts(8, (place) => ({ name: this.string(types.u32(place)), type: types.u32(place + 4) })),
        };
      case 'datasec': {
        const variables = parts(12, (place) => ({ type: types.u32(place), offset: types.u32(place + 4), size: types.u32(place + 8) }));
        return { kind, name, bytes: third, variables };
      }
      case 'float':
        return { kind, name, bytes: third };
      case 'declTag':
        return { kind, name, type: third, component: types.i32(tail) };
      default:
        return { kind, name, type: third };
    }
  }
}

/** A name without its flavour: `task_struct___old` is `task_struct`. */
export function essentialName(name: string): string {
  return name.includes('___') ? (/^(.*[^_])___[^_]/s.exec(name)?.[1] ?? name) : name;
}
