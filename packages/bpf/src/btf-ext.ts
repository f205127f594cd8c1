/**
 * `.BTF.ext`: what an object says of places in its code, section by section (Documentation/bpf/btf.rst): functions with
 * their types, source lines, and the places where an instruction depends on the layout of types (CO-RE).
 */
import type { BtfTypeId } from './btf.ts';
import type { Btf } from './btf-reader.ts';
import { ByteReader } from './byte-reader.ts';

/** Where a function starts, and its type. */
export interface FunctionRecord {
  /** Bytes from the section's start. */
  readonly offset: number;
  /** Id of a `func`. */
  readonly type: BtfTypeId;
}

/** From where on an instruction belongs to a line. */
export interface LineRecord {
  /** Bytes from the section's start. */
  readonly offset: number;
  /** Offsets of strings in the object's BTF. */
  readonly file: number;
  readonly text: number;
  /** From 1; 0 for none. */
  readonly line: number;
  /** From 1; 0 for none. */
  readonly column: number;
}

/** What a relocation asks of the target's types (enum bpf_core_relo_kind). */
export const CoreKind = {
  fieldByteOffset: 0,
  fieldByteSize: 1,
  fieldExists: 2,
  fieldSigned: 3,
  fieldLeftShift: 4,
  fieldRightShift: 5,
  typeIdLocal: 6,
  typeIdTarget: 7,
  typeExists: 8,
  typeSize: 9,
  enumValueExists: 10,
  enumValue: 11,
  typeMatches: 12,
} as const;
export type CoreKind = keyof typeof CoreKind;

/** An instruction whose immediate or offset follows from a type. */
export interface CoreRelocation {
  /** Bytes from the section's start. */
  readonly offset: number;
  /** The type in the object's own BTF. */
  readonly type: BtfTypeId;
  /** Indexes from there on, e.g. `0:1:2`. */
  readonly access: string;
  readonly kind: CoreKind;
}

/** All records by the names of sections, in the file's order. */
export interface BtfExt {
  readonly functions: ReadonlyMap<string, readonly FunctionRecord[]>;
  readonly lines: ReadonlyMap<string, readonly LineRecord[]>;
  readonly core: ReadonlyMap<string, readonly CoreRelocation[]>;
}

const MAGIC = 0xeb9f;
const HEADER_BYTES = 24;
const CORE_HEADER_BYTES = 32;
const KINDS = Object.keys(CoreKind) as readonly CoreKind[];

/** Reads the section. Throws ElfError. */
export function readBtfExt(bytes: Uint8Array, btf: Btf): BtfExt {
  const section = new ByteReader('.BTF.ext', bytes);
  if (section.u16(0) !== MAGIC) throw section.fault('no BTF', 0);
  if (section.u8(2) !== 1) throw section.fault(`version ${section.u8(2)}, expected 1`, 2);
  const header = section.u32(4);
  if (header < HEADER_BYTES) throw section.fault(`a header of ${header} bytes, expected ${HEADER_BYTES} or more`, 4);
  const part = (at: number) => ({ at: header + section.u32(at), length: section.u32(at + 4) });
  return {
    functions: readPart(section, part(8), btf, 8, (at) => ({ offset: section.u32(at), type: section.u32(at + 4) })),
    lines: readPart(section, part(16), btf, 16, (at) => {
      const place = section.u32(at + 12);
      return { offset: section.u32(at), file: section.u32(at + 4), text: section.u32(at + 8), line: place >>> 10, column: place & 0x3ff };
    }),
    core: header < CORE_HEADER_BYTES ? new Map() : readPart(section, part(24), btf, 16, (at) => readCore(section, at, btf)),
  };
}

function readCore(section: ByteReader, at: number, btf: Btf): CoreRelocation {
  const kind = KINDS[section.u32(at + 12)];
  if (kind === undefined) throw section.fault(`a relocation of kind ${section.u32(at + 12)}, expected 0 to ${KINDS.length - 1}`, at + 12);
  return { offset: section.u32(at), type: section.u32(at + 4), access: btf.string(section.u32(at + 8)), kind };
}

/** Records of one kind: their size, then for each section its name, their number, and they. */
function readPart<T>(
  section: ByteReader,
  { at: start, length }: { readonly at: number; readonly length: number },
  btf: Btf,
  least: number,
  read: (at: number) => T,
): ReadonlyMap<string, readonly T[]> {
  const records = new Map<string, T[]>();
  if (length === 0) return records;
  section.check(start, length);
  const size = section.u32(start);
  if (size < least || size % 4 !== 0) throw section.fault(`records of ${size} bytes, expected ${least} or more`, start);
  let at = start + 4;
  while (at < start + length) {
    const name = btf.string(section.u32(at));
    const count = section.u32(at + 4);
    if (at + 8 + count * size > start + length) throw section.fault(`${count} records for ${name}, the end is at ${start + length}`, at);
    const known = records.get(name) ?? [];
    for (let index = 0; index < count; index++) known.push(read(at + 8 + index * size));
    records.set(name, known);
    at += 8 + count * size;
  }
  return records;
}

/** Records to write: sections with their places in bytes and the words that follow. */
export type ExtRecords = ReadonlyMap<number, readonly (readonly number[])[]>;

/** Writes functions and lines, by the offsets of sections' names: each record is its words, the first a place in bytes. */
export function writeBtfExt(functions: ExtRecords, lines: ExtRecords): Uint8Array<ArrayBuffer> {
  const parts = [words(functions, 2), words(lines, 4)];
  const sizes = parts.map((part) => part.length * 4);
  const header = [
    MAGIC | (1 << 16),
    CORE_HEADER_BYTES,
    0,
    sizes[0] ?? 0,
    sizes[0] ?? 0,
    sizes[1] ?? 0,
    (sizes[0] ?? 0) + (sizes[1] ?? 0),
    0,
  ];
  const all = [...header, ...parts.flat()];
  const bytes = new Uint8Array(all.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, word] of all.entries()) view.setUint32(index * 4, word, true);
  return bytes;
}

function words(sections: ExtRecords, size: number): readonly number[] {
  const used = [...sections].filter(([, records]) => records.length > 0);
  return used.length === 0 ? [] : [size * 4, ...used.flatMap(([name, records]) => [name, records.length, ...records.flat()])];
}
