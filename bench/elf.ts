/**
 * Reads the programs out of an object that `clang -target bpf` made: one program for each code section, with a map
 * reference for every extern symbol it names. That is all the C twins need: no BTF, no map definitions, no global
 * variables, no calls between sections; whatever else an object asks for is refused by name.
 * Formats: the System V ABI's ELF-64, relocation types of the kernel's Documentation/bpf/llvm_reloc.rst.
 */
import { decode, EncodingError, type Instruction, type MapReference, SLOT_BYTES } from '@tailrace/bpf';

/** One code section of an object. */
export interface ObjectProgram {
  /** The section's name, e.g. `xdp/root`. */
  readonly section: string;
  /** The function at the section's start. */
  readonly name: string;
  readonly instructions: readonly Instruction[];
  /** Sorted by pc; the maps are named by their symbols. */
  readonly mapReferences: readonly MapReference[];
}

const HEADER_BYTES = 64;
const SECTION_BYTES = 64;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 16;
/** 0x7f 'ELF', 64 bits, little endian, version 1. */
const IDENTITY = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1];
const EM_BPF = 247;
const SHT_PROGBITS = 1;
const SHT_SYMTAB = 2;
const SHT_RELA = 4;
const SHT_REL = 9;
const SHF_EXECINSTR = 4;
const SHN_UNDEF = 0;
const STT_FUNC = 2;
const R_BPF_64_64 = 1;

interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly link: number;
  readonly info: number;
  readonly bytes: DataView;
}

interface SymbolEntry {
  readonly name: string;
  readonly type: number;
  readonly section: number;
  readonly value: number;
}

/**
 * Reads an object's programs, in the order of their sections; empty sections are left out. Throws EncodingError that
 * names the part at fault for anything that is no such object.
 */
export function readObject(bytes: Uint8Array): readonly ObjectProgram[] {
  const sections = readSections(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const table = sections.find((section) => section.type === SHT_SYMTAB);
  const symbols = table ? readSymbols(table, sections) : [];
  return sections.flatMap((section, index) => {
    const code = section.type === SHT_PROGBITS && (section.flags & SHF_EXECINSTR) !== 0 && section.bytes.byteLength > 0;
    return code ? [readProgram(section, index, sections, symbols)] : [];
  });
}

function readProgram(section: Section, index: number, sections: readonly Section[], symbols: readonly SymbolEntry[]): ObjectProgram {
  const functions = symbols.filter((symbol) => symbol.type === STT_FUNC && symbol.section === index);
  const [entry] = functions;
  if (functions.length !== 1 || entry?.value !== 0)
    throw fault('section', `section ${section.name} holds ${functions.length} functions, expected one, at its start`);
  const { buffer, byteOffset, byteLength } = section.bytes;
  const mapReferences = sections
    .filter((relocations) => relocations.info === index && (relocations.type === SHT_REL || relocations.type === SHT_RELA))
    .flatMap((relocations) => readRelocations(relocations, section, symbols))
    .sort((left, right) => left.pc - right.pc);
  return { section: section.name, name: entry.name, instructions: decode(new Uint8Array(buffer, byteOffset, byteLength)), mapReferences };
}

function readRelocations(relocations: Section, section: Section, symbols: readonly SymbolEntry[]): readonly MapReference[] {
  if (relocations.type === SHT_RELA) throw fault('relocation', `section ${relocations.name} has addends, expected plain relocations`);
  return records(relocations, RELOCATION_BYTES).map((record) => {
    const offset = number64(record, 0, 'relocation');
    const type = record.getUint32(8, true);
    const symbol = symbols[record.getUint32(12, true)];
    const name = symbol?.name ?? '';
    const where = `section ${section.name} at byte ${offset}`;
    if (type !== R_BPF_64_64) throw fault('relocation', `${where}: relocation of type ${type} to '${name}', expected a map's address`);
    if (!symbol || symbol.section !== SHN_UNDEF || name === '')
      throw fault('relocation', `${where} names ${name === '' ? 'a local place' : `'${name}'`} inside the object, expected an extern map`);
    if (offset % SLOT_BYTES !== 0 || offset + 2 * SLOT_BYTES > section.bytes.byteLength || section.bytes.getUint8(offset) !== 0x18)
      throw fault('relocation', `${where} is no wide load, expected one for '${name}'`);
    return { pc: offset / SLOT_BYTES, map: name };
  });
}

function readSections(file: DataView): readonly Section[] {
  if (file.byteLength < HEADER_BYTES || IDENTITY.some((byte, at) => file.getUint8(at) !== byte))
    throw fault('header', 'no ELF object of 64 bits, little endian');
  const machine = file.getUint16(18, true);
  if (machine !== EM_BPF) throw fault('header', `an object for machine ${machine}, expected ${EM_BPF} (eBPF)`);
  const offset = number64(file, 40, 'header');
  const [entryBytes, count, namesIndex] = [file.getUint16(58, true), file.getUint16(60, true), file.getUint16(62, true)];
  if (entryBytes !== SECTION_BYTES) throw fault('header', `section headers of ${entryBytes} bytes, expected ${SECTION_BYTES}`);
  const headers = records({ name: 'header', bytes: part(file, offset, count * SECTION_BYTES, 'section headers') }, SECTION_BYTES);
  const raw = headers.map((header) => {
    const type = header.getUint32(4, true);
    // Sections without bytes in the file (SHT_NULL, SHT_NOBITS) may say anything about them.
    const empty = type === 0 || type === 8;
    const bytes = empty
      ? part(file, 0, 0, 'section')
      : part(file, number64(header, 24, 'section'), number64(header, 32, 'section'), 'section');
    return {
      nameOffset: header.getUint32(0, true),
      type,
      flags: Number(header.getBigUint64(8, true) & 0xffff_ffffn),
      link: header.getUint32(40, true),
      info: header.getUint32(44, true),
      bytes,
    };
  });
  const names = raw[namesIndex]?.bytes;
  if (!names) throw fault('header', `names of sections are in section ${namesIndex}, expected one of ${count}`);
  return raw.map(({ nameOffset, ...section }) => ({ ...section, name: text(names, nameOffset) }));
}

function readSymbols(table: Section, sections: readonly Section[]): readonly SymbolEntry[] {
  const names = sections[table.link]?.bytes;
  if (!names) throw fault('symbol', `names of symbols are in section ${table.link}, expected one of ${sections.length}`);
  return records(table, SYMBOL_BYTES).map((symbol) => ({
    name: text(names, symbol.getUint32(0, true)),
    type: symbol.getUint8(4) & 0x0f,
    section: symbol.getUint16(6, true),
    value: number64(symbol, 8, 'symbol'),
  }));
}

function records({ name, bytes }: Pick<Section, 'name' | 'bytes'>, size: number): readonly DataView[] {
  if (bytes.byteLength % size !== 0)
    throw fault('section', `section ${name} has ${bytes.byteLength} bytes, expected a multiple of ${size}`);
  return Array.from({ length: bytes.byteLength / size }, (_, index) => part(bytes, index * size, size, name));
}

function part(whole: DataView, offset: number, length: number, field: string): DataView {
  if (offset > whole.byteLength || length > whole.byteLength - offset)
    throw fault(field, `${length} bytes at ${offset} lie outside the ${whole.byteLength} bytes there are`);
  return new DataView(whole.buffer, whole.byteOffset + offset, length);
}

function number64(view: DataView, offset: number, field: string): number {
  const value = view.getBigUint64(offset, true);
  if (value > 0xffff_ffffn) throw fault(field, `${value} is larger than any object`);
  return Number(value);
}

function text(table: DataView, offset: number): string {
  let end = offset;
  while (end < table.byteLength && table.getUint8(end) !== 0) end++;
  if (end >= table.byteLength) throw fault('name', `a name at ${offset} does not end in its table of ${table.byteLength} bytes`);
  return new TextDecoder().decode(new Uint8Array(table.buffer, table.byteOffset + offset, end - offset));
}

function fault(field: string, message: string): EncodingError {
  return new EncodingError(field, `object file: ${message}`);
}
