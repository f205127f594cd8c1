/**
 * Reading many values of one schema, as from a ring buffer. A struct's fields are written to the result one by one, each
 * at a place in the code of its own: V8 then knows each place's name and reader, and makes of all of them what somebody
 * would write by hand. As a loop this takes five times as long.
 */
import { readerOf } from './codec.ts';
import type { Schema } from './schema.ts';

/** Reads the value at an offset; as `decodeFrom`, and throws as it does. */
export type Decoder<T> = (view: DataView, offset: number) => T;

interface Field {
  readonly name: string;
  readonly offset: number;
  readonly read: Decoder<unknown>;
}

/** Makes a decoder. A process has one schema or a few that it reads much of: for others `decodeFrom` does. */
export function decoder<T>({ layout }: Schema<T>): Decoder<T> {
  if (layout.kind !== 'struct' || Object.keys(layout.views).length > 0) return readerOf(layout) as Decoder<T>;
  const fields = Object.entries(layout.fields).map(
    ([name, field]): Field => ({ name, offset: field.offset, read: readerOf(field.layout) }),
  );
  return structDecoder(fields) as Decoder<T>;
}

function structDecoder([a, b, c, d, e, f, g, h, i, j, ...rest]: readonly Field[]): Decoder<Readonly<Record<string, unknown>>> {
  return (view, at) => {
    const record: Record<string, unknown> = {};
    if (a === undefined) return record;
    record[a.name] = a.read(view, at + a.offset);
    if (b === undefined) return record;
    record[b.name] = b.read(view, at + b.offset);
    if (c === undefined) return record;
    record[c.name] = c.read(view, at + c.offset);
    if (d === undefined) return record;
    record[d.name] = d.read(view, at + d.offset);
    if (e === undefined) return record;
    record[e.name] = e.read(view, at + e.offset);
    if (f === undefined) return record;
    record[f.name] = f.read(view, at + f.offset);
    if (g === undefined) return record;
    record[g.name] = g.read(view, at + g.offset);
    if (h === undefined) return record;
    record[h.name] = h.read(view, at + h.offset);
    if (i === undefined) return record;
    record[i.name] = i.read(view, at + i.offset);
    if (j === undefined) return record;
    record[j.name] = j.read(view, at + j.offset);
    for (const { name, offset, read } of rest) record[name] = read(view, at + offset);
    return record;
  };
}
