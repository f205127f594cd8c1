/** Services that controllers ask for, and how a user replaces one. inversify resolves them, in the pipeline package. */
import { ArgumentError } from '@tailrace/bpf';
import type { AbstractNewable, Newable } from 'inversify';
import type { AnyResource, handle } from './resource.ts';

/** A name for a service that an interface describes: an empty class at run time, which inversify takes as an identifier. */
export type Token<T> = AbstractNewable<T>;

/** Makes a token; inversify prints the name in its errors. Two calls make two tokens. */
export function token<T>(name: string): Token<T> {
  if (name === '') throw new ArgumentError('token: the name is empty, expected the name of the service');
  const named: unknown = { [name]: class {} }[name];
  return named as Token<T>;
}

/** What a controller may ask for: a map or structure gives its handle, a token or class gives the service. */
export type Need = AnyResource | AbstractNewable<unknown> | Newable<unknown>;
/** What a controller gets for a need. */
export type Given<N> = N extends { readonly [handle]: infer H }
  ? H
  : N extends AbstractNewable<infer T>
    ? T
    : N extends Newable<infer T>
      ? T
      : never;

/** A service that a user put in another's place. */
export interface Override {
  readonly service: Token<unknown> | Newable<unknown>;
  readonly value: unknown;
}

/** Replaces the service of a token or class by a value, for one run of a pipeline. */
export function override<T>(service: Token<T> | Newable<T>, value: NoInfer<T>): Override {
  return Object.freeze({ service, value });
}
