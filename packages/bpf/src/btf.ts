/**
 * A writer of BTF, the kernel's type format (Documentation/bpf/btf.rst): a builder that hands out type ids from 1 (0 is
 * void), shares equal types and strings, and writes the blob that BPF_BTF_LOAD takes. Little endian.
 */
import { EncodingError } from './errors.ts';

/** A type's id in one blob; 0 is void. */
export type BtfTypeId = number;

/** Kinds of types (enum in include/uapi/linux/btf.h). */
export const BtfKind = {
  int: 1, // BTF_KIND_INT
  ptr: 2, // BTF_KIND_PTR
  array: 3, // BTF_KIND_ARRAY
  struct: 4, // BTF_KIND_STRUCT
  union: 5, // BTF_KIND_UNION
  enum: 6, // BTF_KIND_ENUM
  fwd: 7, // BTF_KIND_FWD
  typedef: 8, // BTF_KIND_TYPEDEF
  volatile: 9, // BTF_KIND_VOLATILE
  const: 10, // BTF_KIND_CONST
  restrict: 11, // BTF_KIND_RESTRICT
  func: 12, // BTF_KIND_FUNC
  funcProto: 13, // BTF_KIND_FUNC_PROTO
  var: 14, // BTF_KIND_VAR
  datasec: 15, // BTF_KIND_DATASEC
  float: 16, // BTF_KIND_FLOAT
  declTag: 17, // BTF_KIND_DECL_TAG
  typeTag: 18, // BTF_KIND_TYPE_TAG
  enum64: 19, // BTF_KIND_ENUM64
} as const;
export type BtfKind = keyof typeof BtfKind;

/** How an integer's bits read. */
export const BtfIntEncoding = {
  unsigned: 0,
  signed: 1, // BTF_INT_SIGNED
  char: 2, // BTF_INT_CHAR
  bool: 4, // BTF_INT_BOOL
} as const;
export type BtfIntEncoding = keyof typeof BtfIntEncoding;

/** Linkage of functions and variables. */
export const BtfLinkage = {
  static: 0, // BTF_FUNC_STATIC, BTF_VAR_STATIC
  global: 1, // BTF_FUNC_GLOBAL, BTF_VAR_GLOBAL_ALLOCATED
  extern: 2, // BTF_FUNC_EXTERN, BTF_VAR_GLOBAL_EXTERN
} as const;
export type BtfLinkage = keyof typeof BtfLinkage;

/** A member of a struct or union. */
export interface BtfMember {
  readonly name: string;
  readonly type: BtfTypeId;
  /** Bytes from the struct's start. */
  readonly offset: number;
}

/** A parameter of a function prototype. */
export interface BtfParameter {
  readonly name: string;
  readonly type: BtfTypeId;
}

/** A variable in a data section. */
export interface BtfSectionVariable {
  /** Id of a `var`. */
  readonly type: BtfTypeId;
  /** Bytes from the section's start. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

const MAGIC = 0xeb9f;
const KIND_FLAG = 0x80; // bit 31 of info, over the kind in bits 28..24
const HEADER_BYTES = 24;
const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]*$/;
const NAME_BYTES = 127; // KSYM_NAME_LEN of kernels before 6.1, without the final zero

/** Makes a name that the kernel takes for structs, members and functions: other characters become `_`. */
export function btfIdentifier(name: string): string {
  const replaced = name.replace(/[^A-Za-z0-9_]/g, '_').slice(0, NAME_BYTES);
  return /^[A-Za-z_]/.test(replaced) ? replaced : `_${replaced}`.slice(0, NAME_BYTES);
}

/** Builds one BTF blob. Equal types get one id, so that asking twice is free. All methods throw EncodingError. */
export class BtfBuilder {
  readonly #strings = new StringTable();
  readonly #records: Uint32Array[] = [];
  readonly #ids = new Map<string, BtfTypeId>();

  /** Types so far, void not counted. */
  get typeCount(): number {
    return this.#records.length;
  }

  /** An integer of 1, 2, 4, 8 or 16 bytes. The name may have spaces: `unsigned int`. */
  int(name: string, bytes: 1 | 2 | 4 | 8 | 16, encoding: BtfIntEncoding = 'unsigned'): BtfTypeId {
    if (name === '') throw new EncodingError('int name', 'a BTF integer without a name, expected one');
    const info = BtfIntEncoding[encoding] * 2 ** 24 + bytes * 8;
    return this.#add(BtfKind.int, this.string(name), 0, bytes, [info]);
  }

  /** A pointer; 0 gives `void *`. */
  ptr(to: BtfTypeId): BtfTypeId {
    return this.#add(BtfKind.ptr, 0, 0, this.#known('ptr', to), []);
  }

  /** An array of `length` elements. */
  array(element: BtfTypeId, length: number): BtfTypeId {
    const index = this.int('unsigned int', 4);
    return this.#add(BtfKind.array, 0, 0, 0, [this.#known('array', element), index, u32('array length', length)]);
  }

  /** A struct of `bytes` bytes; an empty name makes it anonymous. */
  struct(name: string, bytes: number, members: readonly BtfMember[]): BtfTypeId {
    return this.#record(BtfKind.struct, name, bytes, members);
  }

  /** A union of `bytes` bytes; an empty name makes it anonymous. */
  union(name: string, bytes: number, members: readonly BtfMember[]): BtfTypeId {
    return this.#record(BtfKind.union, name, bytes, members);
  }

  /** A struct that is declared and not defined. */
  forwardStruct(name: string): BtfTypeId {
    return this.#add(BtfKind.fwd, this.#identifier('struct name', name), 0, 0, []);
  }

  /** An enum of 4 bytes; its values are signed where one is negative. */
  enum(name: string, values: Readonly<Record<string, number>>): BtfTypeId {
    const entries = Object.entries(values);
    const words = entries.flatMap(([key, value]) => [
      this.#identifier('enum value', key),
      u32('enum value', value >= 0 ? value : value + 2 ** 32),
    ]);
    const signed = entries.some(([, value]) => value < 0) ? KIND_FLAG : 0;
    const nameAt = name === '' ? 0 : this.#identifier('enum name', name);
    return this.#add(BtfKind.enum | signed, nameAt, entries.length, 4, words);
  }

  /** Another name for a type. */
  typedef(name: string, to: BtfTypeId): BtfTypeId {
    return this.#add(BtfKind.typedef, this.#identifier('typedef name', name), 0, this.#known('typedef', to), []);
  }

  /** A function's type. */
  funcProto(returns: BtfTypeId, parameters: readonly BtfParameter[]): BtfTypeId {
    const words = parameters.flatMap(({ name, type }) => [this.#identifier('parameter name', name), this.#known('parameter', type)]);
    return this.#add(BtfKind.funcProto, 0, parameters.length, this.#known('funcProto', returns), words);
  }

  /** A function. */
  func(name: string, proto: BtfTypeId, linkage: BtfLinkage): BtfTypeId {
    const type = this.#known('func', proto);
    return this.#add(BtfKind.func, this.#identifier('function name', name), BtfLinkage[linkage], type, []);
  }

  /** A variable; list it in a `datasec`. */
  var(name: string, type: BtfTypeId, linkage: BtfLinkage): BtfTypeId {
    const nameAt = this.#identifier('variable name', name);
    return this.#add(BtfKind.var, nameAt, 0, this.#known('var', type), [BtfLinkage[linkage]]);
  }

  /** A data section, e.g. `.maps`, of `bytes` bytes. */
  datasec(name: string, bytes: number, variables: readonly BtfSectionVariable[]): BtfTypeId {
    const words = variables.flatMap(({ type, offset, size }) => [
      this.#known('datasec', type),
      u32('variable offset', offset),
      u32('variable size', size),
    ]);
    return this.#add(BtfKind.datasec, this.string(name), variables.length, u32('section size', bytes), words);
  }

  /** A note on a type, function or variable, in any words (kernel 5.16). */
  declTag(text: string, to: BtfTypeId): BtfTypeId {
    if (text === '') throw new EncodingError('tag', 'a BTF tag without words, expected some');
    return this.#add(BtfKind.declTag, this.string(text), 0, this.#known('declTag', to), [0xffff_ffff]); // of no component
  }

  /**
   * Adds records as they are, in order: those of another blob, with ids and strings of this one. They may refer to each
   * other in circles: the first is type `typeCount + 1`.
   */
  append(records: readonly Uint32Array[]): void {
    for (const record of records) {
      const id = this.#records.push(record);
      const key = record.join();
      if (!this.#ids.has(key)) this.#ids.set(key, id);
    }
  }

  /** Puts a string into the table, as line records need; its offset. */
  string(text: string): number {
    return this.#strings.offset(text);
  }

  /** The blob: header, types, strings. */
  toBytes(): Uint8Array<ArrayBuffer> {
    const typeBytes = this.#records.reduce((sum, record) => sum + record.length * 4, 0);
    const strings = this.#strings.toBytes();
    const bytes = new Uint8Array(HEADER_BYTES + typeBytes + strings.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, MAGIC, true);
    view.setUint8(2, 1); // version
    const header = [HEADER_BYTES, 0, typeBytes, typeBytes, strings.length]; // hdr_len, type_off, type_len, str_off, str_len
    for (const [index, word] of header.entries()) view.setUint32(4 + index * 4, word, true);
    let at = HEADER_BYTES;
    for (const word of this.#records.flatMap((record) => [...record])) {
      view.setUint32(at, word, true);
      at += 4;
    }
    bytes.set(strings, at);
    return bytes;
  }

  #record(kind: number, name: string, bytes: number, members: readonly BtfMember[]): BtfTypeId {
    const words = members.flatMap((member) => [
      member.name === '' ? 0 : this.#identifier('member name', member.name),
      this.#known(`member ${member.name}`, member.type),
      u32('member offset', member.offset * 8), // bits
    ]);
    const nameAt = name === '' ? 0 : this.#identifier('struct name', name);
    return this.#add(kind, nameAt, members.length, u32('struct size', bytes), words);
  }

  /** struct btf_type and what follows it; `vlen` also is the linkage of functions. */
  #add(kind: number, nameAt: number, vlen: number, sizeOrType: number, words: readonly number[]): BtfTypeId {
    if (vlen > 0xffff) throw new EncodingError('vlen', `${vlen} parts of one BTF type, expected at most 65535`);
    const record = Uint32Array.of(nameAt, kind * 2 ** 24 + vlen, sizeOrType, ...words);
    const key = record.join();
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const id = this.#records.push(record);
    this.#ids.set(key, id);
    return id;
  }

  #identifier(field: string, name: string): number {
    if (!IDENTIFIER.test(name) || name.length > NAME_BYTES)
      throw new EncodingError(field, `BTF ${field} '${name}', expected a C identifier of at most ${NAME_BYTES} bytes`, {
        hint: 'btfIdentifier() makes one of any name',
      });
    return this.string(name);
  }

  #known(field: string, id: BtfTypeId): BtfTypeId {
    if (!Number.isInteger(id) || id < 0 || id > this.#records.length)
      throw new EncodingError(field, `BTF ${field} refers to type ${id}, expected 0 to ${this.#records.length}`);
    return id;
  }
}

/** Zero-terminated strings, each once; offset 0 is the empty one. */
class StringTable {
  readonly #offsets = new Map<string, number>([['', 0]]);
  readonly #parts: Uint8Array[] = [new Uint8Array(1)];
  #length = 1;

  offset(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    if (text.includes('\0')) throw new EncodingError('string', 'a BTF string with a zero byte, expected none');
    const part = new TextEncoder().encode(`${text}\0`);
    const offset = this.#length;
    this.#parts.push(part);
    this.#offsets.set(text, offset);
    this.#length += part.length;
    return offset;
  }

  toBytes(): Uint8Array {
    const bytes = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }
}

function u32(field: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
    throw new EncodingError(field, `BTF ${field} is ${value}, expected an unsigned 32-bit integer`);
  return value;
}
