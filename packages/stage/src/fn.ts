/** Functions that programs call: inlined by the compiler, or made a subprogram. They reach a program through `uses`. */
import { ArgumentError } from '@tailrace/bpf';
import type { Bag, inProgram } from './resource.ts';
import { bool, hasBytes, type Infer, type Schema, u32 } from './schema.ts';
import { checkUses } from './uses.ts';

/** A fn of whatever arguments: a body in TypeScript, or an intrinsic of the compiler. */
export interface AnyFn {
  readonly kind: 'fn' | 'intrinsic';
  readonly [inProgram]: (...args: never) => unknown;
}

/** A fn as the compiler sees it. */
export interface FnDecl extends AnyFn {
  readonly kind: 'fn';
  readonly args: readonly Schema<unknown>[];
  readonly returns: Schema<unknown>;
  /** Undefined for a fn of its arguments alone; otherwise the body's last parameter. */
  readonly uses: Readonly<Record<string, unknown>> | undefined;
  readonly body: (this: void, ...args: never) => unknown;
}
/** What programs call as a function of `A` that returns `R`. */
export interface Fn<A extends readonly unknown[], R> extends FnDecl {
  readonly [inProgram]: (...args: A) => R;
}
/** A fn that the compiler has built in, over any schema. */
export interface Intrinsic extends AnyFn {
  readonly kind: 'intrinsic';
  readonly name: 'hashOf' | 'equal';
  readonly schema: Schema<unknown>;
}
/** An intrinsic with its types. */
export interface IntrinsicOf<A extends readonly unknown[], R> extends Intrinsic {
  readonly [inProgram]: (...args: A) => R;
}

/** The arguments that schemas describe. */
export type Args<A extends readonly Schema<unknown>[]> = { -readonly [I in keyof A]: Infer<A[I]> };

/** A fn of its arguments alone. Throws ArgumentError for an argument without bytes. */
export function fn<const A extends readonly Schema<unknown>[], R>(
  args: A,
  returns: Schema<R>,
  body: (this: void, ...args: Args<A>) => R,
): Fn<Args<A>, R>;
/** A fn that also reaches maps, constants and other fns: its last parameter is the bag. Throws ArgumentError for uses that no program can see. */
export function fn<const A extends readonly Schema<unknown>[], R, U extends Readonly<Record<string, unknown>>>(
  args: A,
  returns: Schema<R>,
  uses: U,
  body: (this: void, ...args: [...Args<A>, Bag<U>]) => R,
): Fn<Args<A>, R>;
export function fn(args: readonly Schema<unknown>[], returns: Schema<unknown>, ...rest: readonly unknown[]): Fn<never, unknown> {
  const [uses, body] = rest.length === 1 ? [undefined, rest[0]] : rest;
  if (typeof body !== 'function') throw new ArgumentError(`fn: the body is ${typeof body}, expected a function`);
  for (const [i, arg] of args.entries())
    if (!hasBytes(arg.layout)) throw new ArgumentError(`fn: argument ${i} is ${arg.layout.kind}, expected a schema with bytes`);
  const decl = { kind: 'fn', args: Object.freeze([...args]), returns, uses: uses === undefined ? undefined : checkUses('fn', uses), body };
  return Object.freeze(decl) as unknown as Fn<never, unknown>;
}
/** A u32 hash over the bytes of a key, as `hashBytes` computes it over `encode(key, value)`. */
export function hashOf<K>(key: Schema<K>): IntrinsicOf<[K], number> {
  return intrinsic('hashOf', key);
}

/** Whether two values have the same bytes. */
export function equal<K>(key: Schema<K>): IntrinsicOf<[K, K], boolean> {
  return intrinsic('equal', key);
}

/** What an intrinsic returns. */
export function intrinsicReturns(intrinsic: Intrinsic): Schema<number> | Schema<boolean> {
  return intrinsic.name === 'hashOf' ? u32 : bool;
}

function intrinsic<A extends readonly unknown[], R>(name: Intrinsic['name'], schema: Schema<unknown>): IntrinsicOf<A, R> {
  if (!hasBytes(schema.layout)) throw new ArgumentError(`${name}: the key is ${schema.layout.kind}, expected a schema with bytes`);
  return Object.freeze({ kind: 'intrinsic', name, schema }) as unknown as IntrinsicOf<A, R>;
}
