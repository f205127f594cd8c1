/**
 * Writes programs and maps as an ELF object that libbpf, bpftool and `readElf` load: entries in the sections that libbpf
 * knows their kinds by, subprograms in `.text`, maps defined by BTF in `.maps`, maps that programs address by value as
 * sections of variables, BTF and source lines for all of it.
 */
import { BtfBuilder } from './btf.ts';
import { type ExtRecords, writeBtfExt } from './btf-ext.ts';
import { functionTypes, lineColumn, programFunctions } from './btf-program.ts';
import {
  ElfBinding,
  ElfRelocationType,
  ElfSectionFlag,
  type ElfSectionSource,
  ElfSectionType,
  type ElfSymbol,
  ElfSymbolType,
  writeElfFile,
} from './elf.ts';
import { encode, SLOT_BYTES } from './encoding.ts';
import { ElfError } from './errors.ts';
import { type Instruction, slotsOf } from './instruction.ts';
import { checkMapSpec, type MapSpec } from './map.ts';
import type { MapDefinition } from './object-map.ts';
import { dataSectionName, isDataMap, writeDataType, writeMapType } from './object-map-type.ts';
import { Identifiers, tagName } from './object-name.ts';
import { sectionName } from './object-section.ts';
import { CALL_OPCODE, CallPseudo, WIDE_OPCODE, WidePseudo } from './opcode.ts';
import type { MapReference, ProgramSpec } from './program.ts';

/** A map to write: a spec alone, or with what it holds. */
export type MapSource = MapSpec | MapDefinition;

/**
 * Writes an object. What it holds is read back as it was; programs get their functions in the order in which they name each
 * other. Throws ElfError for what the format cannot say: contents of maps that no program addresses by value, a map that is
 * addressed both by value and by key, several licenses; EncodingError or ArgumentError for specs that are wrong in themselves.
 */
export function writeElf(programs: readonly ProgramSpec[], maps: readonly MapSource[] = []): Uint8Array<ArrayBuffer> {
  const writer = new ObjectWriter(programs, maps.map(definitionOf));
  return writer.write();
}

function definitionOf(source: MapSource): MapDefinition {
  return 'spec' in source ? source : { spec: source, contents: [], programs: [], maps: [], pinByName: false };
}

/** A section that grows. */
interface Growing {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly parts: Uint8Array[];
  size: number;
  readonly relocations: { offset: number; type: number; symbol: number }[];
}

/** Where something lies: its symbol, and for code its slot. */
interface Target {
  readonly symbol: number;
  readonly section: Growing;
  readonly offset: number;
}

class ObjectWriter {
  readonly #programs: readonly ProgramSpec[];
  readonly #maps: readonly MapDefinition[];
  readonly #builder = new BtfBuilder();
  readonly #identifiers = new Identifiers();
  readonly #sections: Growing[] = [];
  readonly #symbols: ElfSymbol[] = [];
  readonly #sectionSymbols = new Map<Growing, number>();
  readonly #mapTargets = new Map<string, Target>();
  readonly #entries = new Map<string, Target>();
  readonly #byValue: ReadonlySet<string>;
  readonly #functionRecords = new Map<number, number[][]>();
  readonly #lineRecords = new Map<number, number[][]>();

  constructor(programs: readonly ProgramSpec[], maps: readonly MapDefinition[]) {
    this.#programs = programs;
    this.#maps = maps;
    const references = programs.flatMap(({ mapReferences }) => mapReferences);
    this.#byValue = new Set(references.flatMap(({ map, valueOffset }) => (valueOffset === undefined ? [] : [map])));
  }

  write(): Uint8Array<ArrayBuffer> {
    const license = this.#license();
    for (const definition of this.#maps) checkMapSpec(definition.spec);
    for (const definition of this.#maps.filter((map) => isDataMap(map, this.#byValue))) this.#writeData(definition);
    const defined = this.#maps.filter((map) => !isDataMap(map, this.#byValue));
    const places = this.#writeMaps(defined);
    for (const program of this.#programs) this.#writeProgram(program);
    for (const definition of defined) this.#writeValues(definition, places.get(definition) ?? 0);
    if (license !== undefined) {
      const section = this.#section('license', ElfSectionType.progbits, ElfSectionFlag.alloc | ElfSectionFlag.write);
      grow(section, new TextEncoder().encode(`${license}\0`));
    }
    // Strings of both kinds of records are in .BTF, which comes first.
    const records: ExtRecords[] = [this.#functionRecords, this.#lineRecords];
    grow(this.#section('.BTF', ElfSectionType.progbits, 0), this.#builder.toBytes());
    grow(this.#section('.BTF.ext', ElfSectionType.progbits, 0), writeBtfExt(records[0] ?? new Map(), records[1] ?? new Map()));
    return writeElfFile(this.#sections.map(finished), this.#symbols);
  }

  #license(): string | undefined {
    const [first, ...others] = new Set(this.#programs.map(({ license }) => license));
    if (others.length > 0) throw new ElfError('license', `programs of licenses '${first}' and '${others[0]}', expected one`);
    return first;
  }

  #section(name: string, type: number, flags: number): Growing {
    const known = this.#sections.find((section) => section.name === name);
    if (known) return known;
    const section = { index: this.#sections.length, name, type, flags, parts: [], size: 0, relocations: [] };
    this.#sections.push(section);
    return section;
  }

  #symbol(name: string, type: number, binding: number, section: Growing, value: number, size: number): number {
    return this.#symbols.push({ name, type, binding, section: section.index, value, size }) - 1;
  }

  #sectionSymbol(section: Growing): number {
    const known = this.#sectionSymbols.get(section);
    if (known !== undefined) return known;
    const symbol = this.#symbol('', ElfSymbolType.section, ElfBinding.local, section, 0, 0);
    this.#sectionSymbols.set(section, symbol);
    return symbol;
  }

  #place(map: string, target: Target): void {
    if (this.#mapTargets.has(map)) throw new ElfError(target.section.name, `two maps ${map}, expected one`);
    this.#mapTargets.set(map, target);
  }

  /** A map that programs address by value: a section of its own. */
  #writeData(definition: MapDefinition): void {
    const { spec, contents } = definition;
    const name = dataSectionName(definition, this.#identifiers);
    const value = contents[0]?.value;
    const flags = ElfSectionFlag.alloc | (name.startsWith('.rodata') ? 0 : ElfSectionFlag.write);
    const section = this.#section(name, value ? ElfSectionType.progbits : ElfSectionType.nobits, flags);
    if (section.size > 0) throw new ElfError(name, `a second map ${spec.name} for this section, expected one`);
    if (value) grow(section, value);
    else section.size = spec.valueSize;
    writeDataType(this.#builder, spec, name, this.#identifiers);
    this.#place(spec.name, { symbol: this.#sectionSymbol(section), section, offset: 0 });
  }

  /** `.maps`, empty of values; the place of each map's values. */
  #writeMaps(definitions: readonly MapDefinition[]): ReadonlyMap<MapDefinition, number> {
    const places = new Map<MapDefinition, number>();
    if (definitions.length === 0) return places;
    const section = this.#section('.maps', ElfSectionType.progbits, ElfSectionFlag.alloc | ElfSectionFlag.write);
    const variables = definitions.map((definition) => {
      const { spec } = definition;
      if (definition.contents.length > 0)
        throw new ElfError('.maps', `map ${spec.name} has contents, which only an array of one element can have that no program looks up`);
      const identifier = this.#identifiers.claim(spec.name);
      const { type, bytes } = writeMapType(this.#builder, definition);
      const slots = [...definition.programs.map(({ slot }) => slot), ...definition.maps.map(({ key }) => index(spec.name, key))];
      const size = bytes + slots.reduce((most, slot) => Math.max(most, slot + 1), 0) * 8;
      const offset = grow(section, new Uint8Array(size));
      const variable = this.#builder.var(identifier, type, 'global');
      tagName(this.#builder, variable, identifier, spec.name);
      const symbol = this.#symbol(identifier, ElfSymbolType.object, ElfBinding.global, section, offset, size);
      this.#place(spec.name, { symbol, section, offset });
      places.set(definition, offset + bytes);
      return { type: variable, offset, size };
    });
    this.#builder.datasec('.maps', section.size, variables);
    return places;
  }

  /** Programs and inner maps that are there from the start. */
  #writeValues({ spec, programs, maps }: MapDefinition, first: number): void {
    const section = this.#section('.maps', ElfSectionType.progbits, 0);
    const values = [
      ...programs.map(({ slot, program }) => ({ slot, name: program, target: this.#entries.get(program) })),
      ...maps.map(({ key, map }) => ({ slot: index(spec.name, key), name: map, target: this.#mapTargets.get(map) })),
    ];
    for (const { slot, name, target } of values) {
      if (!target) throw new ElfError('.maps', `element ${slot} of map ${spec.name} is ${name}, which is not among what is written`);
      if (slot >= spec.maxEntries) throw new ElfError('.maps', `element ${slot} of map ${spec.name}, which has ${spec.maxEntries}`);
      section.relocations.push({ offset: first + slot * 8, type: ElfRelocationType.abs64, symbol: target.symbol });
    }
  }

  #writeProgram(spec: ProgramSpec): void {
    const functions = programFunctions(spec);
    const types = functionTypes(this.#builder, spec.type);
    const code = splitCode(
      spec,
      functions.map(({ pc }) => pc),
    );
    const exec = ElfSectionFlag.alloc | ElfSectionFlag.exec;
    const targets = new Map<number, Target>();
    for (const [order, { pc, name }] of functions.entries()) {
      const isEntry = order === 0;
      // The entry is what the program is called by.
      const full = isEntry ? spec.name : name;
      const section = this.#section(isEntry ? sectionName(spec) : '.text', ElfSectionType.progbits, exec);
      const identifier = this.#identifiers.claim(full);
      const bytes = (code[order]?.slots ?? 0) * SLOT_BYTES;
      const offset = grow(section, new Uint8Array(bytes));
      const binding = isEntry ? ElfBinding.global : ElfBinding.local;
      const symbol = this.#symbol(identifier, ElfSymbolType.func, binding, section, offset, bytes);
      targets.set(pc, { symbol, section, offset });
      const type = this.#builder.func(identifier, isEntry ? types.entry : types.subprogram, isEntry ? 'global' : 'static');
      tagName(this.#builder, type, identifier, full);
      this.#record(this.#functionRecords, section, [offset, type]);
    }
    const entry = targets.get(0);
    if (!entry) throw new ElfError(sectionName(spec), `program ${spec.name} has no instructions`);
    if (this.#entries.has(spec.name)) throw new ElfError(entry.section.name, `two programs ${spec.name}, expected one`);
    this.#entries.set(spec.name, entry);
    const references = new Map(spec.mapReferences.map((reference) => [reference.pc, reference]));
    for (const [order, part] of code.entries()) {
      const target = targets.get(functions[order]?.pc ?? 0);
      if (target) this.#writeFunction(spec, part, target, targets, references);
    }
    const [unused] = references.keys();
    if (unused !== undefined) throw new ElfError(entry.section.name, `program ${spec.name} has no wide load at pc ${unused} for a map`);
    for (const line of spec.lines) {
      const start = functions.findLast(({ pc }) => pc <= line.pc)?.pc ?? 0;
      const target = targets.get(start);
      if (!target) continue;
      const words = [this.#builder.string(line.file), this.#builder.string(line.text), lineColumn(line)];
      this.#record(this.#lineRecords, target.section, [target.offset + (line.pc - start) * SLOT_BYTES, ...words]);
    }
  }

  #writeFunction(
    spec: ProgramSpec,
    part: CodePart,
    place: Target,
    targets: ReadonlyMap<number, Target>,
    references: Map<number, MapReference>,
  ): void {
    let pc = part.pc;
    const instructions = part.instructions.map((instruction) => {
      const at = place.offset + (pc - part.pc) * SLOT_BYTES;
      const reference = references.get(pc);
      const written = reference
        ? this.#mapLoad(spec, instruction, reference, place.section, at)
        : this.#functionLoad(spec, instruction, pc, place.section, at, targets);
      references.delete(pc);
      pc += slotsOf(instruction);
      return written;
    });
    const bytes = encode(instructions);
    place.section.parts[partAt(place.section, place.offset)] = bytes;
  }

  #mapLoad(
    { name }: ProgramSpec,
    instruction: Instruction,
    { pc, map, valueOffset }: MapReference,
    section: Growing,
    offset: number,
  ): Instruction {
    const target = this.#mapTargets.get(map);
    if (!target) throw new ElfError(section.name, `program ${name} names the map ${map}, which is not among the maps`);
    if (instruction.opcode !== WIDE_OPCODE) throw new ElfError(section.name, `program ${name} has no wide load at pc ${pc} for map ${map}`);
    if ((valueOffset === undefined) !== (target.section.name === '.maps'))
      throw new ElfError(
        section.name,
        `program ${name} names the map ${map} by key, which is addressed by value too: an object can say one`,
      );
    section.relocations.push({ offset, type: ElfRelocationType.wide, symbol: target.symbol });
    return { ...instruction, src: WidePseudo.value, imm: valueOffset ?? 0, immHigh: 0 };
  }

  /** Calls and callbacks go by the section's symbol, as those of static functions in C do. */
  #functionLoad(
    { name }: ProgramSpec,
    instruction: Instruction,
    pc: number,
    section: Growing,
    offset: number,
    targets: ReadonlyMap<number, Target>,
  ): Instruction {
    const isCall = instruction.opcode === CALL_OPCODE && instruction.src === CallPseudo.subprogram;
    const isCallback = instruction.opcode === WIDE_OPCODE && instruction.src === WidePseudo.func;
    if (!isCall && !isCallback) return instruction;
    const target = targets.get(pc + 1 + instruction.imm);
    if (target?.section.name !== '.text')
      throw new ElfError(section.name, `program ${name} at pc ${pc} calls pc ${pc + 1 + instruction.imm}, where no subprogram starts`);
    section.relocations.push({
      offset,
      type: isCall ? ElfRelocationType.call : ElfRelocationType.wide,
      symbol: this.#sectionSymbol(target.section),
    });
    return isCall ? { ...instruction, imm: target.offset / SLOT_BYTES - 1 } : { ...instruction, src: WidePseudo.value, imm: target.offset };
  }

  #record(records: Map<number, number[][]>, section: Growing, words: number[]): void {
    const name = this.#builder.string(section.name);
    const list = records.get(name);
    if (list) list.push(words);
    else records.set(name, [words]);
  }
}

/** A function's instructions. */
interface CodePart {
  readonly pc: number;
  readonly slots: number;
  readonly instructions: readonly Instruction[];
}

function splitCode(spec: ProgramSpec, starts: readonly number[]): readonly CodePart[] {
  const parts = starts.map((pc) => ({ pc, slots: 0, instructions: [] as Instruction[] }));
  let pc = 0;
  let order = -1;
  for (const instruction of spec.instructions) {
    if (parts[order + 1]?.pc === pc) order++;
    const part = parts[order];
    part?.instructions.push(instruction);
    if (part) part.slots += slotsOf(instruction);
    pc += slotsOf(instruction);
  }
  const empty = parts.find(({ slots }) => slots === 0);
  if (empty) throw new ElfError(sectionName(spec), `program ${spec.name} has no instruction at pc ${empty.pc}, where a function starts`);
  return parts;
}

/** Appends bytes at a multiple of 8, except to sections of one part; where they are. */
function grow(section: Growing, bytes: Uint8Array): number {
  const offset = Math.ceil(section.size / 8) * 8;
  if (offset > section.size) section.parts.push(new Uint8Array(offset - section.size));
  section.parts.push(bytes);
  section.size = offset + bytes.length;
  return offset;
}

/** The part that starts at an offset. */
function partAt(section: Growing, offset: number): number {
  let at = 0;
  return section.parts.findIndex((part) => {
    const found = at === offset && part.length > 0;
    at += part.length;
    return found;
  });
}

function finished({ name, type, flags, parts, size, relocations }: Growing): ElfSectionSource {
  const isBits = type !== ElfSectionType.nobits;
  const bytes = new Uint8Array(isBits ? size : 0);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  const sorted = relocations.toSorted((left, right) => left.offset - right.offset);
  return { name, type, flags, alignment: 8, bytes, relocations: sorted, ...(isBits ? {} : { size }) };
}

function index(map: string, key: Uint8Array): number {
  if (key.length !== 4) throw new ElfError('.maps', `map ${map} has an inner map under a key of ${key.length} bytes, expected 4`);
  return new DataView(key.buffer, key.byteOffset, 4).getUint32(0, true);
}
