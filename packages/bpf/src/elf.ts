/**
 * The ELF-64 container of eBPF objects: headers, sections, symbols, relocations, both ways. Little endian only. What
 * sections mean is left to object.ts. Formats: the System V ABI; relocation types: Documentation/bpf/llvm_reloc.rst.
 */
import { ByteReader } from './byte-reader.ts';
import { ElfError } from './errors.ts';

/** Kinds of sections (sh_type). */
export const ElfSectionType = { none: 0, progbits: 1, symtab: 2, strtab: 3, rela: 4, nobits: 8, rel: 9 } as const;
/** Bits of sh_flags. */
export const ElfSectionFlag = { write: 1, alloc: 2, exec: 4, infoLink: 0x40 } as const;
/** Kinds of symbols. */
export const ElfSymbolType = { none: 0, object: 1, func: 2, section: 3 } as const;
/** Bindings of symbols. */
export const ElfBinding = { local: 0, global: 1, weak: 2 } as const;
/** Relocations of eBPF objects. */
export const ElfRelocationType = {
  wide: 1, // R_BPF_64_64: a wide load
  abs64: 2, // R_BPF_64_ABS64: 8 bytes of data
  abs32: 3, // R_BPF_64_ABS32: 4 bytes of data
  nodyld32: 4, // R_BPF_64_NODYLD32: 4 bytes of .BTF and .BTF.ext
  call: 10, // R_BPF_64_32: a call
} as const;
/** The section of symbols that are defined elsewhere. */
export const UNDEFINED_SECTION = 0;

/** One section. */
export interface ElfSection {
  readonly index: number;
  readonly name: string;
  /** See ElfSectionType. */
  readonly type: number;
  /** See ElfSectionFlag. */
  readonly flags: number;
  readonly link: number;
  readonly info: number;
  /** Bytes in memory; those of `nobits` sections are zeros. */
  readonly size: number;
  /** Bytes in the file. */
  readonly bytes: Uint8Array;
}

/** One symbol. */
export interface ElfSymbol {
  readonly name: string;
  /** See ElfSymbolType. */
  readonly type: number;
  /** See ElfBinding. */
  readonly binding: number;
  /** Index of a section; 0 where the symbol is defined elsewhere. */
  readonly section: number;
  /** Bytes from the section's start. */
  readonly value: number;
  readonly size: number;
}

/** One relocation; the addend is in the bytes that it changes. */
export interface ElfRelocation {
  /** Bytes from the start of the section that it changes. */
  readonly offset: number;
  /** See ElfRelocationType. */
  readonly type: number;
  readonly symbol: ElfSymbol;
}

/** What an object's container holds. */
export interface ElfFile {
  readonly sections: readonly ElfSection[];
  readonly symbols: readonly ElfSymbol[];
  /** The relocations of a section, by offset. Throws ElfError. */
  relocations(section: ElfSection): readonly ElfRelocation[];
}

const HEADER_BYTES = 64;
const SECTION_BYTES = 64;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 16;
const MAGIC = [0x7f, 0x45, 0x4c, 0x46];
const EM_BPF = 247;
const ET_REL = 1;

/** Reads an object. Throws ElfError for anything that is no relocatable eBPF object of 64 bits, little endian. */
export function readElfFile(bytes: Uint8Array): ElfFile {
  const file = new ByteReader('header', bytes);
  checkHeader(file);
  const sections = readSections(file);
  const symbols = readSymbols(sections);
  const known = new Map<ElfSection, readonly ElfRelocation[]>();
  const relocations = (section: ElfSection) => {
    const list = known.get(section) ?? readRelocations(section, sections, symbols);
    known.set(section, list);
    return list;
  };
  return { sections, symbols, relocations };
}

function checkHeader(file: ByteReader): void {
  if (MAGIC.some((byte, at) => file.bytes[at] !== byte)) throw new ElfError('header', 'no ELF file');
  if (file.u8(4) !== 2) throw new ElfError('header', 'an ELF file of 32 bits, expected 64', { offset: 4 });
  if (file.u8(5) === 2)
    throw new ElfError('header', 'a big-endian object, expected a little-endian one (clang -target bpfel)', { offset: 5 });
  if (file.u8(5) !== 1) throw new ElfError('header', `byte order ${file.u8(5)}, expected 1 (little endian)`, { offset: 5 });
  const [type, machine] = [file.u16(16), file.u16(18)];
  if (machine !== EM_BPF) throw new ElfError('header', `an object for machine ${machine}, expected ${EM_BPF} (eBPF)`, { offset: 18 });
  if (type !== ET_REL) throw new ElfError('header', `an ELF file of type ${type}, expected ${ET_REL} (relocatable)`, { offset: 16 });
}

function readSections(file: ByteReader): readonly ElfSection[] {
  const offset = file.size(40);
  const [entryBytes, count, namesIndex] = [file.u16(58), file.u16(60), file.u16(62)];
  if (entryBytes !== SECTION_BYTES) throw file.fault(`section headers of ${entryBytes} bytes, expected ${SECTION_BYTES}`, 58);
  if (offset > file.length) throw file.fault(`section headers at ${offset}, the end is at ${file.length}`, 40);
  const headers = new ByteReader('section headers', file.slice(offset, count * SECTION_BYTES));
  const raw = Array.from({ length: count }, (_, index) => readSection(file, headers, index));
  const names = raw[namesIndex];
  if (!names) throw file.fault(`names of sections are in section ${namesIndex}, expected one of ${count}`, 62);
  const table = new ByteReader('names of sections', names.bytes);
  return raw.map(({ nameOffset, ...section }) => ({ ...section, name: section.index === 0 ? '' : table.text(nameOffset) }));
}

function readSection(file: ByteReader, headers: ByteReader, index: number): Omit<ElfSection, 'name'> & { readonly nameOffset: number } {
  const at = index * SECTION_BYTES;
  const type = headers.u32(at + 4);
  const inFile = type !== ElfSectionType.none && type !== ElfSectionType.nobits;
  const size = type === ElfSectionType.none ? 0 : headers.size(at + 32);
  const offset = inFile ? headers.size(at + 24) : 0;
  if (inFile && (offset > file.length || size > file.length - offset))
    throw headers.fault(`section ${index} has ${size} bytes at ${offset}, the file ends at ${file.length}`, at + 24);
  return {
    index,
    nameOffset: headers.u32(at),
    type,
    flags: headers.u32(at + 8),
    link: headers.u32(at + 40),
    info: headers.u32(at + 44),
    size,
    bytes: file.slice(offset, inFile ? size : 0),
  };
}

function readSymbols(sections: readonly ElfSection[]): readonly ElfSymbol[] {
  const section = sections.find(({ type }) => type === ElfSectionType.symtab);
  if (!section) return [];
  const strings = sections[section.link];
  if (!strings) throw new ElfError(section.name, `names are in section ${section.link}, expected one of ${sections.length}`);
  const names = new ByteReader(strings.name, strings.bytes);
  const table = new ByteReader(section.name, section.bytes);
  return Array.from({ length: entries(table, SYMBOL_BYTES) }, (_, index) => {
    const at = index * SYMBOL_BYTES;
    const info = table.u8(at + 4);
    return {
      name: table.u32(at) === 0 ? '' : names.text(table.u32(at)),
      type: info & 0x0f,
      binding: info >> 4,
      section: table.u16(at + 6),
      value: table.size(at + 8),
      size: table.size(at + 16),
    };
  });
}

function readRelocations(target: ElfSection, sections: readonly ElfSection[], symbols: readonly ElfSymbol[]): readonly ElfRelocation[] {
  return sections
    .filter(({ type, info }) => info === target.index && (type === ElfSectionType.rel || type === ElfSectionType.rela))
    .flatMap((section) => {
      if (section.type === ElfSectionType.rela)
        throw new ElfError(section.name, 'relocations with addends of their own, expected plain ones (SHT_REL)');
      const table = new ByteReader(section.name, section.bytes);
      return Array.from({ length: entries(table, RELOCATION_BYTES) }, (_, index) => {
        const at = index * RELOCATION_BYTES;
        const symbol = symbols[table.u32(at + 12)];
        if (!symbol) throw table.fault(`symbol ${table.u32(at + 12)}, expected one of ${symbols.length}`, at + 12);
        return { offset: table.size(at), type: table.u32(at + 8), symbol };
      });
    })
    .sort((left, right) => left.offset - right.offset);
}

function entries(table: ByteReader, size: number): number {
  if (table.length % size !== 0) throw table.fault(`${table.length} bytes, expected a multiple of ${size}`);
  return table.length / size;
}

/** A section to write. */
export interface ElfSectionSource {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  /** A power of two; bytes. */
  readonly alignment: number;
  /** None in `nobits` sections. */
  readonly bytes: Uint8Array;
  /** Bytes of a `nobits` section. */
  readonly size?: number;
  /** Written to a section `.rel` + name; `symbol` is an index into the symbols. */
  readonly relocations: readonly { readonly offset: number; readonly type: number; readonly symbol: number }[];
}

/**
 * Writes an object. Sections of symbols are indexes into `sections` (negative: defined elsewhere); symbol and string tables
 * follow them. Deterministic.
 */
export function writeElfFile(sections: readonly ElfSectionSource[], symbols: readonly ElfSymbol[]): Uint8Array<ArrayBuffer> {
  const strings = new Strings();
  // Locals come first, as the ABI wants it.
  const order = symbols.map((_, index) => index).sort((left, right) => local(symbols[right]) - local(symbols[left]) || left - right);
  const place = new Map(order.map((index, at) => [index, at + 1]));
  const sorted = order.flatMap((index) => symbols[index] ?? []);
  const symtab = sections.length + sections.filter(({ relocations }) => relocations.length > 0).length + 1;
  const all: WrittenSection[] = [{ name: '', type: 0, flags: 0, alignment: 0, bytes: new Uint8Array(0), link: 0, info: 0, entry: 0 }];
  for (const section of sections) all.push({ ...section, link: 0, info: 0, entry: 0 });
  for (const [index, { name, relocations }] of sections.entries()) {
    if (relocations.length === 0) continue;
    const bytes = table(RELOCATION_BYTES, relocations, (view, at, { offset, type, symbol }) => {
      view.setBigUint64(at, BigInt(offset), true);
      view.setUint32(at + 8, type, true);
      view.setUint32(at + 12, place.get(symbol) ?? 0, true);
    });
    const flags = ElfSectionFlag.infoLink;
    all.push({
      name: `.rel${name}`,
      type: ElfSectionType.rel,
      flags,
      alignment: 8,
      bytes,
      link: symtab,
      info: index + 1,
      entry: RELOCATION_BYTES,
    });
  }
  const symbolBytes = table(SYMBOL_BYTES, [undefined, ...sorted], (view, at, symbol) => {
    if (!symbol) return;
    view.setUint32(at, strings.offset(symbol.name), true);
    view.setUint8(at + 4, (symbol.binding << 4) | symbol.type);
    view.setUint16(at + 6, symbol.section + 1, true);
    view.setBigUint64(at + 8, BigInt(symbol.value), true);
    view.setBigUint64(at + 16, BigInt(symbol.size), true);
  });
  const locals = sorted.filter((symbol) => local(symbol)).length + 1;
  all.push({
    name: '.symtab',
    type: ElfSectionType.symtab,
    flags: 0,
    alignment: 8,
    bytes: symbolBytes,
    link: symtab + 1,
    info: locals,
    entry: SYMBOL_BYTES,
  });
  for (const name of [...all.map((section) => section.name), '.strtab']) strings.offset(name);
  all.push({ name: '.strtab', type: ElfSectionType.strtab, flags: 0, alignment: 1, bytes: strings.bytes(), link: 0, info: 0, entry: 0 });
  return assemble(all, strings);
}

interface WrittenSection extends Omit<ElfSectionSource, 'relocations'> {
  readonly link: number;
  readonly info: number;
  /** Bytes of one record of a table; 0 for others. */
  readonly entry: number;
}

function assemble(sections: readonly WrittenSection[], strings: Strings): Uint8Array<ArrayBuffer> {
  let end = HEADER_BYTES;
  const offsets = sections.map(({ alignment, bytes }) => {
    const offset = alignment > 1 ? Math.ceil(end / alignment) * alignment : end;
    end = offset + bytes.length;
    return offset;
  });
  const headersAt = Math.ceil(end / 8) * 8;
  const file = new Uint8Array(headersAt + sections.length * SECTION_BYTES);
  const view = new DataView(file.buffer);
  file.set([...MAGIC, 2, 1, 1]);
  view.setUint16(16, ET_REL, true);
  view.setUint16(18, EM_BPF, true);
  view.setUint32(20, 1, true); // version
  view.setBigUint64(40, BigInt(headersAt), true);
  view.setUint16(52, HEADER_BYTES, true);
  view.setUint16(58, SECTION_BYTES, true);
  view.setUint16(60, sections.length, true);
  view.setUint16(62, sections.length - 1, true); // names are in the last section
  for (const [index, section] of sections.entries()) {
    const offset = index === 0 ? 0 : (offsets[index] ?? 0);
    file.set(section.bytes, offset);
    const at = headersAt + index * SECTION_BYTES;
    view.setUint32(at, strings.offset(section.name), true);
    view.setUint32(at + 4, section.type, true);
    view.setUint32(at + 8, section.flags, true);
    view.setBigUint64(at + 24, BigInt(offset), true);
    view.setBigUint64(at + 32, BigInt(section.size ?? section.bytes.length), true);
    view.setUint32(at + 40, section.link, true);
    view.setUint32(at + 44, section.info, true);
    view.setBigUint64(at + 48, BigInt(section.alignment), true);
    view.setBigUint64(at + 56, BigInt(section.entry), true);
  }
  return file;
}

function local(symbol: ElfSymbol | undefined): 0 | 1 {
  return symbol?.binding === ElfBinding.local ? 1 : 0;
}

function table<T>(size: number, records: readonly T[], write: (view: DataView, at: number, record: T) => void): Uint8Array {
  const bytes = new Uint8Array(size * records.length);
  const view = new DataView(bytes.buffer);
  for (const [index, record] of records.entries()) write(view, index * size, record);
  return bytes;
}

/** Zero-terminated strings, each once. */
class Strings {
  readonly #offsets = new Map<string, number>([['', 0]]);
  readonly #text: string[] = [''];
  #length = 1;

  offset(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const offset = this.#length;
    this.#offsets.set(text, offset);
    this.#text.push(text);
    this.#length += new TextEncoder().encode(text).length + 1;
    return offset;
  }

  bytes(): Uint8Array {
    return new TextEncoder().encode(`${this.#text.join('\0')}\0`);
  }
}
