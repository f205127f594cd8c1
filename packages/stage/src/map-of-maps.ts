/**
 * Maps whose values are maps, all made after one blueprint: a table for each tenant, or one that is filled aside and then
 * put in the place of the old one at once.
 */
import { ArgumentError, canBeInner, MapFlag } from '@tailrace/bpf';
import type { MapsHandle } from './handle.ts';
import { type AnyMap, declareMap, type MapDecl, type MapOptions } from './map-decl.ts';
import type { HandleOf, InProgram } from './resource.ts';
import { type Schema, u32 } from './schema.ts';

/** What programs do with maps of maps. */
export interface MapsProgram<K, P> {
  /** The map under the key, or `undefined`. */
  lookup(key: K): P | undefined;
}

/** Maps by index. */
export interface ArrayOfMaps<M extends AnyMap> extends MapDecl<MapsProgram<number, InProgram<M>>, MapsHandle<number, HandleOf<M>>> {
  readonly type: 'arrayOfMaps';
  readonly inner: M;
}
/** Maps under keys. */
export interface HashOfMaps<K, M extends AnyMap> extends MapDecl<MapsProgram<K, InProgram<M>>, MapsHandle<K, HandleOf<M>>> {
  readonly type: 'hashOfMaps';
  readonly inner: M;
}

/** Options of an array of maps. */
export interface ArrayOfMapsOptions<M extends AnyMap> extends MapOptions {
  /** What every inner map is like. Used here, a declaration is a blueprint: it is no map of the pipeline by itself. */
  readonly inner: M;
}
/** Options of a hash of maps. */
export interface HashOfMapsOptions<K, M extends AnyMap> extends ArrayOfMapsOptions<M> {
  readonly key: Schema<K>;
  /** As of `hash`. */
  readonly noPrealloc?: boolean;
}

/** Declares an array of maps. Throws ArgumentError for options that no kernel takes, as `hashOfMaps` does. */
export function arrayOfMaps<M extends AnyMap>(options: ArrayOfMapsOptions<M>): ArrayOfMaps<M> {
  const { name, inner } = options;
  return declareMap('arrayOfMaps', options, { key: u32, value: u32, inner: checked('arrayOfMaps', name, inner) });
}

/** Declares a hash table of maps. */
export function hashOfMaps<K, M extends AnyMap>(options: HashOfMapsOptions<K, M>): HashOfMaps<K, M> {
  const { name, key, inner, noPrealloc } = options;
  const flags = noPrealloc ? MapFlag.noPrealloc : 0;
  return declareMap('hashOfMaps', options, { key, value: u32, flags, inner: checked('hashOfMaps', name, inner) });
}

function checked<M extends AnyMap>(type: string, name: string, inner: M): M {
  if (inner.kind !== 'map') throw new ArgumentError(`${type} '${name}': inner is no map declaration`);
  if (!canBeInner(inner.type))
    throw new ArgumentError(`${type} '${name}': inner is of type ${inner.type}, expected a kind that programs look things up in`);
  return inner;
}
