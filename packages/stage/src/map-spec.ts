/**
 * From a map's declaration to the blueprint that engines make it from, with BTF: `bpftool map dump` then shows fields
 * by name, and a restarted process can tell whether a pinned map still has its schema.
 */
import { ArgumentError, BtfBuilder, type BtfTypeId, btfIdentifier, isDescribable, type MapSpec } from '@tailrace/bpf';
import type { IntLayout, Layout } from './layout.ts';
import type { AnyMap } from './map.ts';

/** The blueprint of a declared map under the name that it has in a pipeline, e.g. `l4lb/conns`. */
export function toMapSpec(map: AnyMap, scopedName: string): MapSpec {
  const { type, key, value, maxEntries, flags, inner, hashes, origin } = map;
  if (origin) return { ...origin.spec, name: scopedName };
  const spec = {
    name: scopedName,
    type,
    keySize: key?.layout.size ?? 0,
    valueSize: valueSizeOf(map),
    maxEntries,
    flags,
    ...(inner === undefined ? {} : { inner: toMapSpec(inner, `${scopedName}.${inner.name}`) }),
    ...(hashes === undefined ? {} : { extra: hashes }),
  };
  if (!isDescribable(type)) return spec;
  const builder = new BtfBuilder();
  // Of a kind without keys the key is void.
  const keyTypeId = key === undefined ? 0 : describeAsBtf(builder, key.layout, `${map.name}_key`);
  const valueTypeId = describeAsBtf(builder, value.layout, `${map.name}_value`);
  return { ...spec, btf: { blob: builder.toBytes(), keyTypeId, valueTypeId } };
}

/** Rings hold records, whose size is said when they are written; slots of events a descriptor. */
function valueSizeOf({ type, value }: AnyMap): number {
  if (type === 'ringBuffer') return 0;
  return type === 'perfEventArray' ? 4 : value.layout.size;
}

/**
 * Adds a layout to a BTF blob and returns its type's id. `name` goes to a struct at the top, structs inside stay
 * anonymous. Big-endian integers are typedefs (`__be32`), a MAC address is six bytes, views have no place in BTF.
 * Throws ArgumentError for a layout without bytes.
 */
export function describeAsBtf(builder: BtfBuilder, layout: Layout, name = ''): BtfTypeId {
  switch (layout.kind) {
    case 'int':
      return describeInt(builder, layout);
    case 'bool':
      return builder.int('_Bool', 1, 'bool');
    case 'array':
      return builder.array(describeAsBtf(builder, layout.item), layout.length);
    case 'struct': {
      const members = Object.entries(layout.fields).map(([field, { layout: inner, offset }]) => ({
        name: field,
        type: describeAsBtf(builder, inner),
        offset,
      }));
      return builder.struct(name === '' ? '' : btfIdentifier(name), layout.size, members);
    }
    case 'nothing':
    case 'ref':
      throw new ArgumentError(`BTF of ${layout.kind}, expected a schema with bytes`);
  }
}

const UNSIGNED = { 1: 'unsigned char', 2: 'unsigned short', 4: 'unsigned int', 8: 'unsigned long long' } as const;
const SIGNED = { 1: 'signed char', 2: 'short', 4: 'int', 8: 'long long' } as const;

function describeInt(builder: BtfBuilder, { size, signed, bigEndian }: IntLayout): BtfTypeId {
  if (size === 6) return builder.array(builder.int(UNSIGNED[1], 1), 6);
  const type = signed ? builder.int(SIGNED[size], size, 'signed') : builder.int(UNSIGNED[size], size);
  return bigEndian ? builder.typedef(`__be${size * 8}`, type) : type;
}
