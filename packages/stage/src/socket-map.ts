/** Maps of sockets: what socket stages send data between, and what `splice` fills. */
import type { SocketHandle } from './handle.ts';
import { declareMap, type MapDecl, type MapOptions } from './map-decl.ts';
import type { phantom } from './resource.ts';
import { type Schema, u32, u64 } from './schema.ts';

/**
 * What programs see of a map of sockets: something for socket stages, to redirect data to. There are no such stages yet, so
 * it has no methods so far; the handle can fill it already.
 */
export interface Sockets {
  readonly [phantom]: 'sockets';
}

/** TCP, UDP or Unix sockets, by index. */
export interface Sockmap extends MapDecl<Sockets, SocketHandle<number>> {
  readonly type: 'sockmap';
}
/** Sockets under keys. */
export interface Sockhash<K> extends MapDecl<Sockets, SocketHandle<K>> {
  readonly type: 'sockhash';
}

/** Options of a sockhash. */
export interface SockhashOptions<K> extends MapOptions {
  readonly key: Schema<K>;
}

/** Declares a table of sockets. Throws ArgumentError for options that no kernel takes, as `sockhash` does. */
export function sockmap(options: MapOptions): Sockmap {
  return declareMap('sockmap', options, { key: u32, value: u64 });
}

/** Declares a hash table of sockets. */
export function sockhash<K>(options: SockhashOptions<K>): Sockhash<K> {
  return declareMap('sockhash', options, { key: options.key, value: u64 });
}
