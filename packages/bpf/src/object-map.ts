/**
 * Maps of an object: those that BTF defines in `.maps`, with inner maps and static tables of programs; those of the older
 * section `maps`; and variables, which are arrays of one element, a section each. What is wrong with a map is told by its
 * `definition`, so that one map nobody wants spoils no object.
 */
import { BtfBuilder, type BtfTypeId } from './btf.ts';
import { copyBtf } from './btf-copy.ts';
import type { Btf, BtfField } from './btf-reader.ts';
import { ByteReader } from './byte-reader.ts';
import { isEnum } from './core-match.ts';
import {
  type ElfFile,
  type ElfRelocation,
  ElfRelocationType,
  type ElfSection,
  ElfSectionFlag,
  ElfSectionType,
  ElfSymbolType,
} from './elf.ts';
import { ElfError, UnsupportedError } from './errors.ts';
import { checkMapSpec, isDescribable, isMapOfMaps, MapFlag, type MapSpec, MapType } from './map.ts';
import { ByOffset } from './object-code.ts';

/** A map, and what it holds before a program runs. */
export interface MapDefinition {
  readonly spec: MapSpec;
  /** Entries to write. A map whose flags have `readOnlyProgram` is meant to be frozen then. */
  readonly contents: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[];
  /** Program arrays: programs by name. */
  readonly programs: readonly { readonly slot: number; readonly program: string }[];
  /** Maps of maps: maps of the object by name. */
  readonly maps: readonly { readonly key: Uint8Array; readonly map: string }[];
  /** Whether the object asks for a pin by its name (LIBBPF_PIN_BY_NAME). */
  readonly pinByName: boolean;
}

/** A map of an object. */
export interface ObjectMap {
  /** As programs name it: its variable, or for variables of a program their section, e.g. `.rodata`. */
  readonly name: string;
  readonly section: string;
  /** Throws UnsupportedError, ArgumentError or ElfError where there can be no such map. */
  definition(): MapDefinition;
}

/** Maps by their places. */
export interface MapTable {
  readonly maps: ReadonlyMap<string, ObjectMap>;
  /** What lies at a byte of a section: a map, or a byte of its value. */
  at(section: number, offset: number): { readonly map: string; readonly valueOffset?: number } | undefined;
}

/** What the maps of an object need to know of the rest. */
export interface MapSurroundings {
  readonly btf: Btf | undefined;
  /** The full name of a variable or of the struct of inner maps, by type id; undefined where its own says it all. */
  fullName(id: BtfTypeId): string | undefined;
  /** The name of the program that starts at a byte of a section. */
  programAt(section: number, offset: number): string | undefined;
}

interface Place {
  readonly section: number;
  readonly offset: number;
  readonly size: number;
  /** Variables: the place is the map's value. */
  readonly isValue: boolean;
  readonly map: ObjectMap;
}

const NOTHING = { contents: [], programs: [], maps: [], pinByName: false } as const;
const TYPES: ReadonlyMap<number, MapType> = new Map((Object.keys(MapType) as MapType[]).map((type) => [MapType[type], type]));
const DATA = /^\.(data|rodata|bss)(\.|$)/;
/** What a definition may say (libbpf's bpf_helpers.h). `numa_node` is passed over: it says where memory is, not what is in it. */
const FIELDS = [
  'type',
  'key',
  'key_size',
  'value',
  'value_size',
  'max_entries',
  'map_flags',
  'map_extra',
  'numa_node',
  'pinning',
  'values',
];

/** Finds all maps of an object. Throws ElfError where they cannot even be told apart. */
export function readMaps(file: ElfFile, surroundings: MapSurroundings): MapTable {
  const places: Place[] = [];
  const at = (section: number, offset: number): Place | undefined => {
    const found = starts.get(section)?.findLast((place) => place.offset <= offset);
    return found && (found.isValue || found.offset === offset) ? found : undefined;
  };
  const mapAt = (section: number, offset: number) => at(section, offset)?.map.name;
  for (const section of file.sections) {
    if (section.size === 0) continue;
    if (section.name === '.maps') places.push(...definedMaps(file, section, { ...surroundings, mapAt }));
    else if (section.name === 'maps') places.push(...olderMaps(file, section));
    else if (isDataSection(section.name) && (section.flags & ElfSectionFlag.alloc) !== 0) places.push(dataMap(file, section, surroundings));
  }
  const starts = new Map<number, Place[]>();
  const maps = new Map<string, ObjectMap>();
  for (const place of places) {
    if (maps.has(place.map.name)) throw new ElfError(place.map.section, `two maps ${place.map.name}, expected one`);
    maps.set(place.map.name, place.map);
    const list = starts.get(place.section);
    if (list) list.push(place);
    else starts.set(place.section, [place]);
  }
  for (const list of starts.values()) list.sort((left, right) => left.offset - right.offset);
  return {
    maps,
    at: (section, offset) => {
      const place = at(section, offset);
      return place && { map: place.map.name, ...(place.isValue ? { valueOffset: offset } : {}) };
    },
  };
}

interface DefinitionContext extends MapSurroundings {
  mapAt(section: number, offset: number): string | undefined;
}

/** `.maps`: one variable a map, whose type says what it is. */
function definedMaps(file: ElfFile, section: ElfSection, context: DefinitionContext): readonly Place[] {
  const { btf } = context;
  if (!btf) throw new ElfError(section.name, 'maps without BTF to define them', { hint: 'compile with -g' });
  const list = dataSection(btf, section.name);
  if (!list) throw new ElfError('.BTF', `no data section ${section.name}, expected one that lists the maps`);
  let known: ByOffset<ElfRelocation> | undefined;
  const relocations = () => {
    known ??= new ByOffset(file.relocations(section), ({ offset }) => offset);
    return known;
  };
  return list.map(({ type, offset, size }) => {
    const variable = btf.type(type);
    if (variable.kind !== 'var') throw new ElfError('.BTF', `type ${type} in ${section.name} is a ${variable.kind}, expected a variable`);
    const name = context.fullName(type) ?? variable.name;
    const define = () => definition(section, relocations(), btf, context, { name, type: variable.type, offset, size });
    return { section: section.index, offset, size, isValue: false, map: objectMap(name, section.name, define) };
  });
}

interface Variable {
  readonly name: string;
  readonly type: BtfTypeId;
  readonly offset: number;
  readonly size: number;
}

function definition(
  section: ElfSection,
  relocations: ByOffset<ElfRelocation>,
  btf: Btf,
  context: DefinitionContext,
  variable: Variable,
): MapDefinition {
  const members = definitionMembers(btf, variable.name, variable.type);
  const { spec, pinning } = mapSpec(btf, variable.name, members, context.fullName);
  if (pinning > 1) throw new UnsupportedError(`map ${variable.name} has pinning ${pinning}, expected 0 (none) or 1 (by name)`);
  const first = (members.get('values')?.bitOffset ?? variable.size * 8) / 8;
  const programs: { slot: number; program: string }[] = [];
  const maps: { key: Uint8Array; map: string }[] = [];
  for (const { offset, type, symbol } of relocations.range(variable.offset, variable.offset + variable.size)) {
    const at = offset - variable.offset;
    const fault = (message: string) => new ElfError(section.name, `map ${variable.name}: ${message}`, { offset });
    const slot = (at - first) / 8;
    if (type !== ElfRelocationType.abs64 || !Number.isInteger(slot) || slot < 0)
      throw fault(`a relocation of type ${type}, expected an element of values`);
    if (slot >= spec.maxEntries) throw fault(`element ${slot} of ${spec.maxEntries}`);
    const target = symbol.value + (symbol.type === ElfSymbolType.section ? new ByteReader(section.name, section.bytes).i32(offset) : 0);
    if (spec.type === 'programArray') {
      const program = context.programAt(symbol.section, target);
      if (program === undefined) throw fault(`slot ${slot} names ${symbol.name || 'a place'}, expected a program of the object`);
      programs.push({ slot, program });
    } else {
      const map = context.mapAt(symbol.section, target);
      if (map === undefined || !isMapOfMaps(spec.type))
        throw fault(`element ${slot} names ${symbol.name || 'a place'}, expected a map of the object`);
      if (spec.keySize !== 4) throw fault(`elements of a map with keys of ${spec.keySize} bytes, expected 4`);
      maps.push({ key: u32(slot), map });
    }
  }
  return { ...NOTHING, spec, programs, maps, pinByName: pinning === 1 };
}

function definitionMembers(btf: Btf, name: string, type: BtfTypeId): ReadonlyMap<string, BtfField> {
  const struct = btf.resolved(type);
  if (struct.kind !== 'struct') throw new ElfError('.BTF', `map ${name} is a ${struct.kind}, expected a struct that defines it`);
  for (const member of struct.members)
    if (!FIELDS.includes(member.name))
      throw new ElfError('.BTF', `map ${name} has a field '${member.name}', expected ${FIELDS.join(', ')}`);
  return new Map(struct.members.map((member) => [member.name, member]));
}

/** The spec that a struct's members define, and its `pinning`. Inner maps come without `nameOf`: they have none themselves. */
function mapSpec(
  btf: Btf,
  name: string,
  members: ReadonlyMap<string, BtfField>,
  nameOf?: MapSurroundings['fullName'],
): { readonly spec: MapSpec; readonly pinning: number } {
  const number = (field: string) => {
    const member = members.get(field);
    return member === undefined ? undefined : definedNumber(btf, name, member);
  };
  const size = (field: 'key' | 'value') => {
    const type = pointee(btf, name, members.get(field));
    const given = number(`${field}_size`);
    const bytes = type === undefined ? undefined : btf.size(type);
    if (given !== undefined && bytes !== undefined && given !== bytes)
      throw new ElfError('.BTF', `map ${name}: ${field}_size is ${given}, its ${field} has ${bytes} bytes`);
    return { type, bytes: given ?? bytes };
  };
  const kind = number('type') ?? 0;
  const type = TYPES.get(kind);
  if (type === undefined) throw new UnsupportedError(`map ${name} is of kernel type ${kind}, which Tailrace does not make`);
  const [key, value] = [size('key'), size('value')];
  const values = members.get('values');
  if (values && !nameOf) throw new ElfError('.BTF', `map ${name}: an inner map with values of its own`);
  const inner = values && nameOf && isMapOfMaps(type) ? innerSpec(btf, name, values, nameOf) : undefined;
  // Slots of programs, events and maps are descriptors.
  const descriptor = type === 'programArray' || type === 'perfEventArray' || isMapOfMaps(type) ? 4 : 0;
  const extra = number('map_extra');
  const spec: MapSpec = {
    name,
    type,
    keySize: key.bytes ?? (values || type === 'perfEventArray' ? 4 : 0),
    valueSize: value.bytes ?? descriptor,
    maxEntries: number('max_entries') ?? 0,
    flags: number('map_flags') ?? 0,
    ...(inner ? { inner } : {}),
    ...(extra ? { extra } : {}),
  };
  const btfOf = describe(btf, type, key.type, value.type);
  return { spec: btfOf ? { ...spec, btf: btfOf } : spec, pinning: number('pinning') ?? 0 };
}

/** `__array(values, struct inner)`: the struct that defines every inner map. */
function innerSpec(btf: Btf, name: string, values: BtfField, nameOf: MapSurroundings['fullName']): MapSpec {
  const array = btf.resolved(values.type);
  const pointer = array.kind === 'array' ? btf.resolved(array.element) : undefined;
  if (pointer?.kind !== 'ptr') throw new ElfError('.BTF', `map ${name}: values are no array of pointers, expected pointers to inner maps`);
  const inner = nameOf(btf.resolve(pointer.type)) ?? `${name}.inner`;
  return mapSpec(btf, inner, definitionMembers(btf, inner, pointer.type)).spec;
}

/** `__uint(name, 5)` is a pointer to an array of 5; `__ulong(name, 5)` an enum with that value. */
function definedNumber(btf: Btf, map: string, member: BtfField): number {
  const type = btf.resolved(member.type);
  if (isEnum(type) && type.values.length === 1) return Number(type.values[0]?.value);
  const array = type.kind === 'ptr' ? btf.resolved(type.type) : undefined;
  if (array?.kind !== 'array') throw new ElfError('.BTF', `map ${map}: ${member.name} is no number, expected __uint(${member.name}, …)`);
  return array.length;
}

/** `__type(name, T)` is a pointer to T. */
function pointee(btf: Btf, map: string, member: BtfField | undefined): BtfTypeId | undefined {
  if (!member) return undefined;
  const type = btf.resolved(member.type);
  if (type.kind !== 'ptr') throw new ElfError('.BTF', `map ${map}: ${member.name} is a ${type.kind}, expected __type(${member.name}, …)`);
  return type.type;
}

/** BTF of key and value, where the kernel takes it for the kind. */
function describe(btf: Btf, type: MapType, key: BtfTypeId | undefined, value: BtfTypeId | undefined): MapSpec['btf'] | undefined {
  if (!isDescribable(type) || value === undefined) return undefined;
  const keyKind = key === undefined ? undefined : btf.resolved(key);
  if (type === 'bloomFilter' ? key !== undefined : key === undefined) return undefined;
  // Kernel: array_map_check_btf, trie_check_btf.
  if ((type === 'array' || type === 'perCpuArray') && !(keyKind?.kind === 'int' && keyKind.bits === 32)) return undefined;
  if (type === 'lpmTrie' && keyKind?.kind !== 'struct') return undefined;
  const builder = new BtfBuilder();
  const [keyTypeId = 0, valueTypeId = 0] = copyBtf(builder, btf, [key ?? 0, value]);
  return { blob: builder.toBytes(), keyTypeId, valueTypeId };
}

/** Whether a section holds variables, as a map. */
export function isDataSection(name: string): boolean {
  return DATA.test(name);
}

/** `maps`: a struct bpf_map_def for each symbol; words past the fifth must be zero. */
function olderMaps(file: ElfFile, section: ElfSection): readonly Place[] {
  const symbols = file.symbols
    .filter(({ section: index, type, name }) => index === section.index && type <= ElfSymbolType.object && name !== '')
    .sort((left, right) => left.value - right.value);
  const bytes = new ByteReader(section.name, section.bytes);
  return symbols.map(({ name, value: offset }, index) => {
    const size = (symbols[index + 1]?.value ?? section.size) - offset;
    const define = () => {
      if (size < 20 || size % 4 !== 0) throw bytes.fault(`map ${name} has ${size} bytes, expected 20 or more`, offset);
      const words = Array.from({ length: size / 4 }, (_, word) => bytes.u32(offset + word * 4));
      const [kind = 0, keySize = 0, valueSize = 0, maxEntries = 0, flags = 0, ...rest] = words;
      const type = TYPES.get(kind);
      if (type === undefined) throw new UnsupportedError(`map ${name} is of kernel type ${kind}, which Tailrace does not make`);
      if (rest.some((word) => word !== 0))
        throw bytes.fault(`map ${name} says more than type, sizes, entries and flags, which is not understood`, offset + 20);
      return { ...NOTHING, spec: { name, type, keySize, valueSize, maxEntries, flags } };
    };
    return { section: section.index, offset, size, isValue: false, map: objectMap(name, section.name, define) };
  });
}

/** A section of variables: one element, with BTF that lists them. */
function dataMap(file: ElfFile, section: ElfSection, { btf, fullName }: MapSurroundings): Place {
  const list = btf && dataSection(btf, section.name);
  const [only, ...others] = list ?? [];
  const name = (only && others.length === 0 ? fullName(only.type) : undefined) ?? section.name;
  const define = (): MapDefinition => {
    const [pointer] = file.relocations(section);
    if (pointer)
      throw new UnsupportedError(
        `section ${section.name} holds a pointer to ${pointer.symbol.name || 'a place of the object'} at byte ${pointer.offset}`,
        {
          hint: 'no map can hold pointers: use an index, or code instead of a table',
        },
      );
    const described = btf && list && describeSection(btf, section, list);
    const spec: MapSpec = {
      name,
      type: 'array',
      keySize: 4,
      valueSize: section.size,
      maxEntries: 1,
      flags: section.name.startsWith('.rodata') ? MapFlag.readOnlyProgram : 0,
      ...(described ? { btf: described } : {}),
    };
    const filled = section.type !== ElfSectionType.nobits;
    return { ...NOTHING, spec, contents: filled ? [{ key: u32(0), value: section.bytes.slice() }] : [] };
  };
  return { section: section.index, offset: 0, size: section.size, isValue: true, map: objectMap(name, section.name, define) };
}

type SectionVariables = readonly { readonly type: BtfTypeId; readonly offset: number; readonly size: number }[];

function dataSection(btf: Btf, name: string): SectionVariables | undefined {
  for (const id of btf.named(name)) {
    const type = btf.type(id);
    if (type.kind === 'datasec' && type.name === name) return type.variables;
  }
  return undefined;
}

/** A data section's BTF with its size, which compilers leave open; undefined where its variables overlap or stick out. */
function describeSection(btf: Btf, section: ElfSection, list: SectionVariables): MapSpec['btf'] | undefined {
  const sorted = list.toSorted((left, right) => left.offset - right.offset);
  let end = 0;
  for (const { type, offset, size } of sorted) {
    if (btf.type(type).kind !== 'var' || size === 0 || offset < end || offset + size > section.size) return undefined;
    end = offset + size;
  }
  const builder = new BtfBuilder();
  const ids = copyBtf(
    builder,
    btf,
    sorted.map(({ type }) => type),
  );
  const variables = sorted.map(({ offset, size }, index) => ({ type: ids[index] ?? 0, offset, size }));
  const valueTypeId = builder.datasec(section.name, section.size, variables);
  return { blob: builder.toBytes(), keyTypeId: 0, valueTypeId };
}

function objectMap(name: string, section: string, define: () => MapDefinition): ObjectMap {
  let known: MapDefinition | undefined;
  return {
    name,
    section,
    definition: () => {
      if (known) return known;
      const made = define();
      checkMapSpec(made.spec);
      known = made;
      return made;
    },
  };
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
