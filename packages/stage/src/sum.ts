/** Values of a per-CPU map as one: what `handle.sum(key)` gives. */
import { ArgumentError } from '@tailrace/bpf';
import type { Sum } from './handle.ts';
import type { Layout } from './layout.ts';
import type { Schema } from './schema.ts';

/**
 * Adds the values of all CPUs: integers without wrapping, booleans by `or`, structs and arrays member by member, views
 * left out. Throws ArgumentError where there are no values.
 */
export function sumValues<V>(schema: Schema<V>, values: readonly V[]): Sum<V> {
  if (values.length === 0) throw new ArgumentError('sum: no values, expected one for each CPU');
  return sumOf(schema.layout, values) as Sum<V>;
}

function sumOf(layout: Layout, values: readonly unknown[]): unknown {
  switch (layout.kind) {
    case 'int':
      return layout.bigint
        ? (values as readonly bigint[]).reduce((sum, value) => sum + value, 0n)
        : (values as readonly number[]).reduce((sum, value) => sum + value, 0);
    case 'bool':
      return values.includes(true);
    case 'struct': {
      const records = values as readonly Readonly<Record<string, unknown>>[];
      return Object.fromEntries(
        Object.entries(layout.fields).map(([name, field]) => [
          name,
          sumOf(
            field.layout,
            records.map((record) => record[name]),
          ),
        ]),
      );
    }
    case 'array': {
      const lists = values as readonly ArrayLike<unknown>[];
      return Array.from({ length: layout.length }, (_, i) =>
        sumOf(
          layout.item,
          lists.map((list) => list[i]),
        ),
      );
    }
    case 'nothing':
    case 'ref':
      throw new ArgumentError(`sum: a value is ${layout.kind}, expected a schema with bytes`);
  }
}
