/** BTF that defines maps in objects: the structs of `.maps`, as libbpf reads them, and the variables of data sections. */
import type { BtfBuilder, BtfTypeId } from './btf.ts';
import { copyBtf } from './btf-copy.ts';
import { type Btf, readBtf } from './btf-reader.ts';
import { ElfError } from './errors.ts';
import { isMapOfMaps, MapFlag, type MapSpec, MapType } from './map.ts';
import { isDataSection, type MapDefinition } from './object-map.ts';
import { type Identifiers, tagName } from './object-name.ts';

/** Whether a map has to be a section of variables: one that programs address by value, or that has contents. */
export function isDataMap({ spec, contents }: MapDefinition, byValue: ReadonlySet<string>): boolean {
  if (!byValue.has(spec.name) && contents.length === 0 && !isDataSection(spec.name)) return false;
  if (spec.type !== 'array' || spec.maxEntries !== 1 || (spec.flags & ~(MapFlag.readOnlyProgram | MapFlag.mmapable)) !== 0)
    throw new ElfError(
      '.data',
      `map ${spec.name} is addressed by value or has contents, expected an array of one element without other flags`,
    );
  if (contents.length > 1 || contents.some(({ value }) => value.length !== spec.valueSize))
    throw new ElfError('.data', `map ${spec.name} has contents of another size, expected one value of ${spec.valueSize} bytes`);
  return true;
}

/** The section of such a map: its own name where that is one, else one made of it. */
export function dataSectionName({ spec, contents }: MapDefinition, identifiers: Identifiers): string {
  const { name, flags } = spec;
  const start = (flags & MapFlag.readOnlyProgram) !== 0 ? '.rodata' : contents.length > 0 ? '.data' : '.bss';
  if (isDataSection(name) && name.startsWith(start)) return name;
  return `${start}.${identifiers.claim(name)}`;
}

/** The variables of a data section: those that the map's BTF lists, else one that is all of it. */
export function writeDataType(builder: BtfBuilder, spec: MapSpec, section: string, identifiers: Identifiers): void {
  const { name, valueSize, btf } = spec;
  // A section of constants that no variable names (`.rodata.str1.1`) has no types.
  if (!btf && section === name) return;
  const source = btf && readBtf(btf.blob, `BTF of map ${name}`);
  const value = source && btf ? source.resolved(btf.valueTypeId) : undefined;
  if (source && value?.kind === 'datasec') {
    const ids = copyBtf(
      builder,
      source,
      value.variables.map(({ type }) => type),
    );
    const variables = value.variables.map(({ offset, size }, index) => ({ type: ids[index] ?? 0, offset, size }));
    builder.datasec(section, valueSize, variables);
    if (section !== name && variables.length === 1) tagName(builder, variables[0]?.type ?? 0, section, name);
    return;
  }
  const type = source && btf ? copied(builder, source, btf.valueTypeId) : builder.array(builder.int('unsigned char', 1), valueSize);
  const variable = builder.var(identifiers.claim(name), type, 'global');
  tagName(builder, variable, section, name);
  builder.datasec(section, valueSize, [{ type: variable, offset: 0, size: valueSize }]);
}

/** The struct that defines a map, and its bytes; elements of `values` follow it. */
export function writeMapType(
  builder: BtfBuilder,
  { spec, programs, pinByName }: MapDefinition,
): { readonly type: BtfTypeId; readonly bytes: number } {
  const fields = numbers(builder, spec, pinByName);
  const pointers = types(builder, spec);
  const all = [...fields, ...pointers].map(({ name, type }, index) => ({ name, type: builder.ptr(type), offset: index * 8 }));
  const bytes = all.length * 8;
  if (spec.inner) {
    const inner = writeMapType(builder, { spec: spec.inner, contents: [], programs: [], maps: [], pinByName: false });
    tagName(builder, inner.type, `${spec.name}.inner`, spec.inner.name);
    all.push({ name: 'values', type: builder.array(builder.ptr(inner.type), 0), offset: bytes });
  } else if (spec.type === 'programArray' && programs.length > 0) {
    const proto = builder.funcProto(builder.int('int', 4, 'signed'), []);
    all.push({ name: 'values', type: builder.array(builder.ptr(proto), 0), offset: bytes });
  }
  return { type: builder.struct('', bytes, all), bytes };
}

/** Numbers are lengths of arrays. Their elements have one byte, so that arrays of four billion are still types. */
function numbers(builder: BtfBuilder, spec: MapSpec, pinByName: boolean): readonly { readonly name: string; readonly type: BtfTypeId }[] {
  const { type, keySize, valueSize, maxEntries, flags, extra = 0, btf } = spec;
  const isKeyDescribed = btf !== undefined && btf.keyTypeId !== 0;
  const values: Readonly<Record<string, number>> = {
    type: MapType[type],
    key_size: isKeyDescribed ? 0 : keySize,
    value_size: btf || isMapOfMaps(type) ? 0 : valueSize,
    max_entries: maxEntries,
    map_flags: flags,
    map_extra: extra,
    pinning: pinByName ? 1 : 0,
  };
  const element = builder.int('unsigned char', 1);
  return Object.entries(values).flatMap(([name, value]) => (value === 0 ? [] : [{ name, type: builder.array(element, value) }]));
}

function types(builder: BtfBuilder, { name, btf }: MapSpec): readonly { readonly name: string; readonly type: BtfTypeId }[] {
  if (!btf) return [];
  const source = readBtf(btf.blob, `BTF of map ${name}`);
  const [key = 0, value = 0] = copyBtf(builder, source, [btf.keyTypeId, btf.valueTypeId]);
  return [...(key === 0 ? [] : [{ name: 'key', type: key }]), { name: 'value', type: value }];
}

function copied(builder: BtfBuilder, source: Btf, type: BtfTypeId): BtfTypeId {
  return copyBtf(builder, source, [type])[0] ?? 0;
}
