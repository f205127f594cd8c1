/**
 * What a value means inside a program and what it means outside. Maps, structures and fns carry both as phantom
 * properties: they exist for the type checker only, no object has them at run time.
 */

/** Key of the properties that hold types without a value. */
export declare const phantom: unique symbol;
/** Key of the type that the program of a stage sees. */
export declare const inProgram: unique symbol;
/** Key of the type that the control plane gets. */
export declare const handle: unique symbol;
/** Key of the type that says what a network function puts into each chain. */
export declare const parts: unique symbol;

/** Anything with a program side `P` and a user side `H`. */
export interface Resource<P, H> {
  /** Name within the stage or function that declares it. */
  readonly name: string;
  readonly [inProgram]: P;
  readonly [handle]: H;
}
/** A resource of whatever sides. */
export type AnyResource = Resource<unknown, unknown>;

/** What the program of a stage sees under a name of its `uses`: a constant is itself. */
export type InProgram<T> = T extends { readonly [inProgram]: infer P } ? P : T;
/** What the control plane gets for a map or a structure. */
export type HandleOf<T> = T extends { readonly [handle]: infer H } ? H : never;
/** The bag, a program's second parameter: every name of `uses` as the program sees it. */
export type Bag<U> = { readonly [K in keyof U]: InProgram<U[K]> };

/** Refuses a `string` whose value is not known to the types. */
export type Literal<X extends string> = string extends X ? 'a label must be a literal' : X;
/** Prints an object type with its members instead of the alias that computed it. */
export type Flat<T> = T extends unknown ? { [K in keyof T]: T[K] } : never;
/** No members. An alias prints as `{}` where it is computed with, and keeps the lint exception in one place. */
// biome-ignore lint/complexity/noBannedTypes: a default for records that have no members; Record<never, never> prints badly
export type Empty = {};

/**
 * The type of a checked parameter: the argument's own type `T` where the check passes, the messages where not.
 * (A conditional type and not `T & Check`: TypeScript infers `T` through its first branch, and the error
 * is then one line instead of three.)
 */
export type Checked<T, Check> = T extends Check ? T : Check;
