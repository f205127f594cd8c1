/** Maps of sockets: what socket stages send data between, and what `splice` fills. */
import type { SocketHandle } from './handle.ts';
import { declareMap, type MapDecl, type MapOptions } from './map-decl.ts';
import type { phantom } from './resource.ts';
import { type Schema, u32, u64 } from './schema.ts';

/** What programs see of a map of sockets: `ctx.redirect` of data takes it with a key. */
export interface Sockets<K> {
  readonly [phantom]: 'sockets';
  /** In a sockOps stage: puts the socket of the event under `key`, in the place of the one that is there. False where it cannot. */
  add(key: K): boolean;
}

/** TCP, UDP or Unix sockets, by index. */
export interface Sockmap extends MapDecl<Sockets<number>, SocketHandle<number>> {
  readonly type: 'sockmap';
}
/** Sockets under keys. */
export interface Sockhash<K> extends MapDecl<Sockets<K>, SocketHandle<K>> {
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
