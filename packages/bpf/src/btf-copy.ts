/**
 * Types of one BTF blob, copied into another with all that they refer to: what describes a single map out of an object's
 * types. Names that only compilers know (`f.x`, `list<int>`) become identifiers, since the kernel takes no others.
 */
import { type BtfBuilder, BtfKind, type BtfTypeId, btfIdentifier } from './btf.ts';
import type { Btf } from './btf-reader.ts';
import { ElfError } from './errors.ts';

/** Kinds whose names are C identifiers. */
const NAMED: ReadonlySet<number> = new Set([
  BtfKind.struct,
  BtfKind.union,
  BtfKind.enum,
  BtfKind.enum64,
  BtfKind.fwd,
  BtfKind.typedef,
  BtfKind.func,
  BtfKind.var,
]);

/** Copies types into a builder; their ids there. Types that `roots` share are copied once. Throws ElfError. */
export function copyBtf(builder: BtfBuilder, source: Btf, roots: readonly BtfTypeId[]): readonly BtfTypeId[] {
  const ids = new Map<BtfTypeId, BtfTypeId>([[0, 0]]);
  const order: BtfTypeId[] = [];
  const first = builder.typeCount + 1;
  const id = (type: BtfTypeId): BtfTypeId => {
    const known = ids.get(type);
    if (known !== undefined) return known;
    const next = first + order.length;
    order.push(type);
    ids.set(type, next);
    return next;
  };
  const copied = roots.map(id);
  const records: Uint32Array[] = [];
  for (let at = 0; at < order.length; at++) records.push(translate(source.record(order[at] ?? 0), builder, source, id));
  builder.append(records);
  return copied;
}

/** A record with names and types of the builder. */
function translate(record: Uint32Array, builder: BtfBuilder, source: Btf, id: (type: BtfTypeId) => BtfTypeId): Uint32Array {
  const kind = ((record[1] ?? 0) >>> 24) & 0x1f;
  const count = (record[1] ?? 0) & 0xffff;
  const name = (at: number, identifier: boolean) => {
    const text = source.string(record[at] ?? 0);
    record[at] = builder.string(identifier && text !== '' ? btfIdentifier(text) : text);
  };
  const type = (at: number) => {
    record[at] = id(record[at] ?? 0);
  };
  if (kind === BtfKind.datasec)
    throw new ElfError('.BTF', `a type refers to the data section ${source.string(record[0] ?? 0)}, expected none to do so`);
  name(0, NAMED.has(kind));
  switch (kind) {
    case BtfKind.int:
    case BtfKind.fwd:
    case BtfKind.float:
      break;
    case BtfKind.array:
      type(3);
      type(4);
      break;
    case BtfKind.struct:
    case BtfKind.union:
      for (let part = 0; part < count; part++) {
        name(3 + part * 3, true);
        type(4 + part * 3);
      }
      break;
    case BtfKind.enum:
      for (let part = 0; part < count; part++) name(3 + part * 2, true);
      break;
    case BtfKind.enum64:
      for (let part = 0; part < count; part++) name(3 + part * 3, true);
      break;
    case BtfKind.funcProto:
      type(2);
      for (let part = 0; part < count; part++) {
        name(3 + part * 2, true);
        type(4 + part * 2);
      }
      break;
    default:
      type(2); // pointers, typedefs, qualifiers, functions, variables, tags
  }
  return record;
}
