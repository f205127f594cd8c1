/** What types remember of a stage beside its exits: metadata read and written, and who was wired behind its exits. */
import type { Flat, phantom } from './resource.ts';
import type { Infer, Values } from './schema.ts';

/** "This stage reads that field." The stage's name is kept so that an error can say who reads. */
export interface Read<Field extends string, By extends string> {
  readonly field: Field;
  readonly by: By;
}
/** A read of whatever field by whomever. */
export type AnyRead = Read<string, string>;

/** What a stage reads and writes, by field name, and the names of the stages that were wired behind its exits. */
export interface Traits<Reads extends AnyRead, Writes extends string, Behind extends string> {
  readonly reads: Reads;
  readonly writes: Writes;
  readonly behind: Behind;
}
/** A stage with none of these. An interface of its own, so that a hover prints one word. */
export interface Plain extends Traits<never, never, never> {}
/** Traits of whatever stage. */
export type AnyTraits = Traits<AnyRead, string, string>;
/** `Traits`, or `Plain` where there are none. */
export type TraitsOf<R extends AnyRead, W extends string, B extends string> = [R, W, B] extends [never, never, never]
  ? Plain
  : Traits<R, W, B>;

/** Looks up one trait of a stage or of a function's part; distributes over unions. */
export type Trait<T, K extends keyof AnyTraits> = T extends { readonly [phantom]: { readonly traits: infer M extends AnyTraits } }
  ? M[K]
  : never;
/** The `Read`s of a stage or part. */
export type ReadsOf<T> = Trait<T, 'reads'>;
/** The names of the fields that a stage or part writes. */
export type WritesOf<T> = Trait<T, 'writes'>;
/** Fields of a `reads` schema as `Read`s by the stage `N`; distributes over the field names. */
export type ReadsBy<Field, N extends string> = Field extends string ? Read<Field, N> : never;

/** `ctx.meta`: read-only, unless the stage also declares that it writes the field. */
export type MetaView<R, W> = Flat<{ readonly [F in keyof R as F extends keyof W ? never : F]: Infer<R[F]> } & Values<W>>;
