/** What a map declaration is, whatever its kind, and what all kinds check when they are declared. */
import { ArgumentError, isPerCpu, type MapDefinition, type MapType } from '@tailrace/bpf';
import type { Resource } from './resource.ts';
import { hasBytes, type Schema } from './schema.ts';

/** One kernel map: `P` is what programs see, `H` what the control plane gets. */
export interface MapDecl<P, H> extends Resource<P, H> {
  readonly kind: 'map';
  readonly type: MapType;
  /** Undefined where the kind has no keys. */
  readonly key: Schema<unknown> | undefined;
  readonly value: Schema<unknown>;
  readonly maxEntries: number;
  /** BPF_MAP_CREATE flags, see MapFlag. */
  readonly flags: number;
  /** Maps of maps: what every inner map is like. It is a blueprint, and no map of the pipeline by itself. */
  readonly inner?: AnyMap;
  /** Perf event arrays: bytes of each CPU's ring, if said, and whether events come with what follows their value. */
  readonly perf?: { readonly bytes: number | undefined; readonly packet: boolean };
  /** Bloom filters: how many hashes a value is looked up by. */
  readonly hashes?: number;
  /** Set: every declaration of this name in a pipeline is the same map; two that differ are a conflict. */
  readonly global?: boolean;
  /** A map that an object declares: its blueprint there, and what it holds before a program runs. */
  readonly origin?: Pick<MapDefinition, 'spec' | 'contents'>;
}
/** A map of whatever kind. */
export type AnyMap = MapDecl<unknown, unknown>;

/** What every declaration has. */
export interface MapOptions {
  /** Letters, digits, `_`, `.` and `-`; at most 64. Unique within the stage or function; need not be elsewhere. */
  readonly name: string;
  /** 1..2^32-1. */
  readonly maxEntries: number;
  /** See `MapDecl.global`. */
  readonly global?: boolean;
}

/** What a kind adds to its options. */
export interface MapContent {
  readonly key?: Schema<unknown>;
  readonly value: Schema<unknown>;
  readonly flags?: number;
  readonly inner?: AnyMap;
  readonly hashes?: number | undefined;
  readonly perf?: MapDecl<unknown, unknown>['perf'];
  readonly origin?: MapDecl<unknown, unknown>['origin'];
}

/** The largest key: programs build keys on their stack, which has this many bytes (MAX_BPF_STACK). */
const MAX_KEY_BYTES = 512;
/** The largest value of a per-CPU map: PCPU_MIN_UNIT_SIZE (include/linux/percpu.h). */
const MAX_PER_CPU_BYTES = 32_768;
const MAX_ENTRIES = 0xffff_ffff;

/** Checks and freezes a declaration. Throws ArgumentError for options that no kernel takes. */
export function declareMap<M extends AnyMap>(type: M['type'], options: MapOptions, content: MapContent): M {
  const { name, maxEntries, global } = options;
  const { key, value, flags = 0, inner, hashes, perf, origin } = content;
  if (!/^[\w.-]{1,64}$/.test(name)) throw new ArgumentError(`${type}: name '${name}', expected 1 to 64 letters, digits, '_', '.' or '-'`);
  // 0: one for each CPU
  const least = type === 'perfEventArray' ? 0 : 1;
  if (!Number.isSafeInteger(maxEntries) || maxEntries < least || maxEntries > MAX_ENTRIES)
    throw new ArgumentError(`${type} '${name}': maxEntries is ${maxEntries}, expected ${least}..${MAX_ENTRIES}`);
  for (const [side, { layout }] of Object.entries(key ? { key, value } : { value }))
    if (!hasBytes(layout)) throw new ArgumentError(`${type} '${name}': the ${side} is ${layout.kind}, expected a schema with bytes`);
  if (key && key.layout.size > MAX_KEY_BYTES)
    throw new ArgumentError(`${type} '${name}': the key takes ${key.layout.size} bytes, expected at most ${MAX_KEY_BYTES}`);
  if (isPerCpu(type) && value.layout.size > MAX_PER_CPU_BYTES)
    throw new ArgumentError(`${type} '${name}': the value takes ${value.layout.size} bytes, expected at most ${MAX_PER_CPU_BYTES}`);
  const decl: Unbranded<AnyMap> = {
    kind: 'map',
    type,
    name,
    key,
    value,
    maxEntries,
    flags,
    ...(inner === undefined ? {} : { inner }),
    ...(hashes === undefined ? {} : { hashes }),
    ...(perf === undefined ? {} : { perf }),
    ...(global === undefined ? {} : { global }),
    ...(origin === undefined ? {} : { origin }),
  };
  return Object.freeze(decl) as M;
}
/** A declaration as it is at run time, without its phantom sides. */
type Unbranded<M> = { [K in keyof M as K extends string ? K : never]: M[K] };
