/**
 * How a value lies in memory: sizes, offsets and byte order, as data. The compiler reads it to emit loads and stores,
 * codec.ts to move values in and out of maps; schema.ts makes it.
 */

/** The layout of a value: one of these kinds. Sizes, alignments and offsets are in bytes. */
export type Layout = IntLayout | BoolLayout | StructLayout | ArrayLayout | NothingLayout | RefLayout;

/** An integer. */
export interface IntLayout {
  readonly kind: 'int';
  /** 6 is a MAC address. */
  readonly size: 1 | 2 | 4 | 6 | 8;
  readonly align: number;
  readonly signed: boolean;
  /** The bytes are in network order; programs and handles see host numbers all the same. */
  readonly bigEndian: boolean;
  /** Seen as a `bigint`: u64, i64 and be64. */
  readonly bigint: boolean;
}

/** A byte that is 0 or 1; reading takes any other value for `true`. */
export interface BoolLayout {
  readonly kind: 'bool';
  readonly size: 1;
  readonly align: 1;
}

/** Fields one behind the other, in the order of their declaration. */
export interface StructLayout {
  readonly kind: 'struct';
  /** A multiple of `align`: trailing padding is part of it. */
  readonly size: number;
  readonly align: number;
  readonly fields: Readonly<Record<string, StructField>>;
  readonly views: Readonly<Record<string, BitsView>>;
}

/** One field of a struct. */
export interface StructField {
  readonly layout: Layout;
  readonly offset: number;
}

/**
 * Some bits of an integer field under a name of their own, read-only:
 * `((field >>> shift) & ((1 << width) - 1)) * scale`, compared with 0 where `bool`.
 */
export interface BitsView {
  readonly field: string;
  /** Counted from the least significant bit of the host number. */
  readonly shift: number;
  /** 1..31. */
  readonly width: number;
  readonly scale: number;
  readonly bool: boolean;
}

/** Items one behind the other. */
export interface ArrayLayout {
  readonly kind: 'array';
  readonly size: number;
  readonly align: number;
  readonly item: Layout;
  readonly length: number;
}

/** No value. */
export interface NothingLayout {
  readonly kind: 'nothing';
  readonly size: 0;
  readonly align: 1;
}

/** A pointer into a map value, or null; lives in a program only. */
export interface RefLayout {
  readonly kind: 'ref';
  readonly size: 8;
  readonly align: 8;
  readonly value: Layout;
}

/** A layout in the words of its schema, e.g. `{ prefixLen: u32, addr: be32 }`: what messages print. */
export function describeLayout(layout: Layout): string {
  switch (layout.kind) {
    case 'int':
      return layout.size === 6 ? 'mac' : `${layout.bigEndian ? 'be' : layout.signed ? 'i' : 'u'}${layout.size * 8}`;
    case 'struct':
      return `{ ${Object.entries(layout.fields)
        .map(([name, field]) => `${name}: ${describeLayout(field.layout)}`)
        .join(', ')} }`;
    case 'array':
      return `${describeLayout(layout.item)}[${layout.length}]`;
    case 'ref':
      return `ref ${describeLayout(layout.value)}`;
    case 'bool':
    case 'nothing':
      return layout.kind;
  }
}

/** True where two layouts put the same values at the same places under the same names. */
export function sameLayout(a: Layout, b: Layout): boolean {
  if (a === b) return true;
  if (a.size !== b.size || a.align !== b.align) return false;
  if (a.kind === 'int' && b.kind === 'int') return a.signed === b.signed && a.bigEndian === b.bigEndian && a.bigint === b.bigint;
  if (a.kind === 'array' && b.kind === 'array') return a.length === b.length && sameLayout(a.item, b.item);
  if (a.kind === 'ref' && b.kind === 'ref') return sameLayout(a.value, b.value);
  if (a.kind === 'struct' && b.kind === 'struct') {
    const ours = Object.entries(a.fields);
    const theirs = Object.entries(b.fields);
    return (
      ours.length === theirs.length &&
      ours.every(([name, field], i) => {
        const [otherName, other] = theirs[i] ?? [];
        return other !== undefined && name === otherName && field.offset === other.offset && sameLayout(field.layout, other.layout);
      })
    );
  }
  return a.kind === b.kind;
}
