/**
 * What an expression stands for while a program is lowered: machine values with what is known of them, references
 * into memory, and things that exist only while compiling (maps, fns, the context).
 */
import type { AnyMap, BitsView, FnDecl, Intrinsic, Layout } from '@tailrace/stage';
import type { Place, Space, Value } from '../ir.ts';
import type { Range } from '../range.ts';

/** A `let` or `const`, a field of an object literal, or a fact that the compiler remembers along a path. */
export interface Variable {
  readonly name: string;
  readonly constant: boolean;
  /** Known on one path only: forgotten where it meets paths that know something else. */
  readonly ofPath?: boolean;
}

/** Between two moves of the packet. References into the packet are good within their epoch only. */
export interface Epoch {
  /** The call that began it, e.g. `ctx.adjustHead()`; undefined for the first. */
  readonly call: string | undefined;
}

/** A big-endian integer as its bytes lie in memory: one part, or a 4-byte and a 2-byte part for 6 bytes. */
export interface Raw {
  readonly size: number;
  readonly parts: readonly Value[];
}

export interface NumberOperand {
  readonly kind: 'number';
  readonly range: Range;
  /** The value as signed 64 bits. */
  readonly exact?: Value;
  /** A value whose low 32 bits are right, of a number within 32 signed bits: sign-extended only when asked for. */
  readonly low?: Value;
  readonly raw?: Raw;
}
/** `value` is right modulo 2^64; it is exact where `range` fits 64 bits. */
export interface BigintOperand {
  readonly kind: 'bigint';
  readonly range: Range;
  readonly value: Value;
  readonly raw?: Raw;
}
/** 0 or 1. */
export interface BooleanOperand {
  readonly kind: 'boolean';
  readonly value: Value;
}
export interface UndefinedOperand {
  readonly kind: 'undefined';
}

/** A place in memory with a layout; a scalar sits in a box and is read as `.value`. */
export interface RefOperand {
  readonly kind: 'ref';
  readonly layout: Layout;
  /** A pointer, or null where `nullable`; the place is `offset` bytes on. */
  readonly base: Value;
  readonly offset: number;
  readonly space: Space;
  /** Other CPUs write it too: in-place arithmetic is atomic. */
  readonly shared: boolean;
  readonly nullable: boolean;
  readonly epoch?: Epoch;
  /** It is no place but an inner map; the base is its handle. */
  readonly map?: AnyMap;
  /** Packet references: where it starts, from the packet's first byte. */
  readonly position?: NumberOperand;
}

/** An object literal: its fields are variables; it goes to the stack only where a helper needs its address. */
export interface AggregateOperand {
  readonly kind: 'aggregate';
  readonly fields: ReadonlyMap<string, Variable>;
  /** Remembers the stack copy, see StoredOperand. */
  readonly storage: Variable;
}
/** The stack copy of an aggregate, and what it held when it was written. */
export interface StoredOperand {
  readonly kind: 'stored';
  readonly layout: Layout;
  readonly address: Value;
  readonly contents: readonly Operand[];
}

export interface StringOperand {
  readonly kind: 'string';
  readonly value: string;
}
/** A way out of the program; effects, if any, have been emitted. */
export interface VerdictOperand {
  readonly kind: 'verdict';
  readonly outcome:
    | { readonly verdict: string; readonly reason?: string }
    | { readonly next: true }
    | { readonly exit: string }
    /** What a redirect helper gave; where it refused, `refused` is the verdict, the hook's own unless said otherwise. */
    | { readonly dynamic: Value; readonly refused?: 'pass' };
}

/** A schema from `uses`, for `ctx.at`. */
export interface SchemaOperand {
  readonly kind: 'schema';
  readonly layout: Layout;
}
export interface ContextOperand {
  readonly kind: 'context';
}
export interface MetaOperand {
  readonly kind: 'meta';
}
/** Named things: the bag, a structure's program side, a constant object. */
export interface NamesOperand {
  readonly kind: 'names';
  readonly what: string;
  readonly members: ReadonlyMap<string, Operand>;
}
/** A constant array. */
export interface ListOperand {
  readonly kind: 'list';
  readonly items: readonly Operand[];
}
export interface MapOperand {
  readonly kind: 'map';
  readonly map: AnyMap;
  /** Empty for an inner map. */
  readonly reference: string;
  /** An inner map's, found at run time. */
  readonly handle?: Value;
}
export interface FnOperand {
  readonly kind: 'fn';
  readonly fn: FnDecl;
  readonly name: string;
  readonly uses: NamesOperand | undefined;
}
export interface IntrinsicOperand {
  readonly kind: 'intrinsic';
  readonly intrinsic: Intrinsic;
}
/** `Math`, `BigInt`, `Number`, and methods taken from an object: only good to be called. */
export interface MethodOperand {
  readonly kind: 'method';
  readonly of: Operand | undefined;
  readonly name: string;
}
/** Paths meet with values that cannot be one; an error where it is used. */
export interface ConflictOperand {
  readonly kind: 'conflict';
  readonly message: string;
  readonly hint?: string;
}

export type Operand =
  | NumberOperand
  | BigintOperand
  | BooleanOperand
  | UndefinedOperand
  | RefOperand
  | AggregateOperand
  | StoredOperand
  | StringOperand
  | VerdictOperand
  | SchemaOperand
  | ContextOperand
  | MetaOperand
  | NamesOperand
  | ListOperand
  | MapOperand
  | FnOperand
  | IntrinsicOperand
  | MethodOperand
  | ConflictOperand;

export const UNDEFINED: UndefinedOperand = { kind: 'undefined' };

/** What a user calls it. */
export function describe(operand: Operand): string {
  switch (operand.kind) {
    case 'ref':
      return operand.nullable
        ? `${operand.map ? 'an inner map' : 'a reference'} that may be undefined`
        : operand.layout.kind === 'struct'
          ? 'a reference to a struct'
          : operand.layout.kind === 'array'
            ? 'a reference to an array'
            : operand.map
              ? `map '${operand.map.name}'`
              : 'a reference';
    case 'aggregate':
      return 'an object literal';
    case 'names':
      return operand.what;
    case 'list':
      return 'a constant array';
    case 'context':
      return 'ctx';
    case 'meta':
      return 'ctx.meta';
    case 'undefined':
      return 'undefined';
    case 'map':
      return `map '${operand.map.name}'`;
    case 'fn':
      return `fn '${operand.name}'`;
    case 'method':
      return `'${operand.name}'`;
    case 'intrinsic':
      return operand.intrinsic.name;
    case 'conflict':
      return 'a value that depends on the path';
    default:
      return `a ${operand.kind}`;
  }
}

/** What to write instead of a reference to a scalar. */
export function contentHint(operand: Operand): string | undefined {
  const scalar = operand.kind === 'ref' && (operand.layout.kind === 'int' || operand.layout.kind === 'bool');
  return scalar ? "its content is '.value'" : undefined;
}

export type View = BitsView;
export type { Place };
