/** Structures: maps, the fns that work on them, and the handle that fills them, as one value for `uses`. */
import { ArgumentError } from '@tailrace/bpf';
import type { AnyFn } from './fn.ts';
import type { AnyMap } from './map.ts';
import type { Bag, HandleOf, Resource } from './resource.ts';

/** A data structure over maps: `P` is what programs see, `H` what the control plane gets. */
export interface Structure<P, H> extends Resource<P, H> {
  readonly kind: 'structure';
  readonly maps: Readonly<Record<string, AnyMap>>;
  readonly fns: Readonly<Record<string, AnyFn>>;
  /** Makes the user's side out of the handles of `maps`, by the same names. */
  handle(maps: Readonly<Record<string, unknown>>): H;
}
/** A structure of whatever sides. */
export type AnyStructure = Structure<unknown, unknown>;

/**
 * Makes a structure. `handle` gets the handles of the structure's own maps.
 * Authors annotate their factory with a named interface, so that users read `FlowCache<…>` and not its members.
 * Throws ArgumentError where a member is no map or no fn.
 */
export function defineStructure<M extends Readonly<Record<string, AnyMap>>, F extends Readonly<Record<string, AnyFn>>, H>(definition: {
  readonly name: string;
  readonly maps: M;
  readonly fns: F;
  readonly handle: (this: void, maps: { readonly [K in keyof M]: HandleOf<M[K]> }) => H;
}): Structure<Bag<F>, H> {
  const { name, maps, fns, handle } = definition;
  for (const [member, map] of Object.entries(maps))
    if (map.kind !== 'map') throw new ArgumentError(`structure '${name}': maps.${member} is no map declaration`);
  for (const [member, fn] of Object.entries(fns))
    if (fn.kind !== 'fn' && fn.kind !== 'intrinsic') throw new ArgumentError(`structure '${name}': fns.${member} is no fn`);
  const structure = { kind: 'structure', name, maps: Object.freeze({ ...maps }), fns: Object.freeze({ ...fns }), handle };
  return Object.freeze(structure) as unknown as Structure<Bag<F>, H>;
}
