/**
 * Map declarations: what a stage names in its `uses`. A declaration is a value, and identity is the value: two stages
 * that use one declaration share one map. Making the map is the registry's work, in the pipeline package.
 */
import { ArgumentError, isPerCpu, MapFlag, type MapType, type UpdateFlag } from '@tailrace/bpf';
import type { ArrayHandle, KeyedHandle, PerCpuArrayHandle, PerCpuHandle, ProgramArrayHandle } from './handle.ts';
import type { Layout } from './layout.ts';
import type { phantom, Resource } from './resource.ts';
import { hasBytes, type Ref, type Schema, u32 } from './schema.ts';

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
  /** Set: every declaration of this name in a pipeline is the same map; two that differ are a conflict. */
  readonly global?: boolean;
}
/** A map of whatever kind. */
export type AnyMap = MapDecl<unknown, unknown>;

/** What programs do with keyed maps. */
export interface KeyedProgram<K, V> {
  /** The value in place, or `undefined`. */
  lookup(key: K): Ref<V> | undefined;
  /** False where the map is full or the flag forbids the write; `any` unless said otherwise. */
  update(key: K, value: V, flag?: UpdateFlag): boolean;
  /** False where there was no such key. */
  delete(key: K): boolean;
}
/** What programs do with arrays: `undefined` outside 0..maxEntries-1. */
export interface ArrayProgram<V> {
  lookup(index: number): Ref<V> | undefined;
}
/** What programs see of a devmap: something that `ctx.redirect` takes. */
export interface Devices {
  readonly [phantom]: 'devices';
}
/** What programs see of a program array: nothing, chains jump through it on their own. */
export interface Slots {
  readonly [phantom]: 'slots';
}

/** A hash table with preallocated entries. */
export interface HashMap<K, V> extends MapDecl<KeyedProgram<K, V>, KeyedHandle<K, V>> {
  readonly type: 'hash';
}
/** A hash table that evicts an entry that was not used lately when full. */
export interface LruHashMap<K, V> extends MapDecl<KeyedProgram<K, V>, KeyedHandle<K, V>> {
  readonly type: 'lruHash';
}
/** A hash table with a value for each CPU; a program sees its own CPU's. */
export interface PerCpuHashMap<K, V> extends MapDecl<KeyedProgram<K, V>, PerCpuHandle<K, V>> {
  readonly type: 'perCpuHash';
}
/** An evicting hash table with a value for each CPU. */
export interface LruPerCpuHashMap<K, V> extends MapDecl<KeyedProgram<K, V>, PerCpuHandle<K, V>> {
  readonly type: 'lruPerCpuHash';
}
/** Longest-prefix match. */
export interface LpmTrie<K, V> extends MapDecl<KeyedProgram<K, V>, KeyedHandle<K, V>> {
  readonly type: 'lpmTrie';
}
/** An array. */
export interface ArrayMap<V> extends MapDecl<ArrayProgram<V>, ArrayHandle<V>> {
  readonly type: 'array';
}
/** An array with a value for each CPU; a program sees its own CPU's. */
export interface PerCpuArrayMap<V> extends MapDecl<ArrayProgram<V>, PerCpuArrayHandle<V>> {
  readonly type: 'perCpuArray';
}
/** Interfaces to redirect to, by index: values are ifindexes. */
export interface Devmap extends MapDecl<Devices, KeyedHandle<number, number>> {
  readonly type: 'devmap';
}
/** Programs to tail-call, by slot. */
export interface ProgramArray extends MapDecl<Slots, ProgramArrayHandle> {
  readonly type: 'programArray';
}

/** What every declaration has. */
export interface MapOptions {
  /** Letters, digits, `_`, `.` and `-`; at most 64. Unique within the stage or function; need not be elsewhere. */
  readonly name: string;
  /** 1..2^32-1. */
  readonly maxEntries: number;
  /** See `MapDecl.global`. */
  readonly global?: boolean;
}
/** Options of maps whose values have a schema. */
export interface ArrayOptions<V> extends MapOptions {
  readonly value: Schema<V>;
}
/** Options of maps whose keys have one too. */
export interface KeyedOptions<K, V> extends ArrayOptions<V> {
  readonly key: Schema<K>;
}

/** Declares a hash table. Throws ArgumentError, as all of these do, for options that no kernel takes. */
export function hash<K, V>(options: KeyedOptions<K, V>): HashMap<K, V> {
  return declare('hash', options, options.key, options.value);
}

/** Declares a hash table that evicts. */
export function lruHash<K, V>(options: KeyedOptions<K, V>): LruHashMap<K, V> {
  return declare('lruHash', options, options.key, options.value);
}

/** Declares a hash table with a value for each CPU. */
export function perCpuHash<K, V>(options: KeyedOptions<K, V>): PerCpuHashMap<K, V> {
  return declare('perCpuHash', options, options.key, options.value);
}

/** Declares an evicting hash table with a value for each CPU. */
export function lruPerCpuHash<K, V>(options: KeyedOptions<K, V>): LruPerCpuHashMap<K, V> {
  return declare('lruPerCpuHash', options, options.key, options.value);
}

/**
 * Declares a longest-prefix match. The key is a struct of `prefixLen: u32` and, directly behind it, the 1 to 256 bytes
 * to match, in network order: `ipv4Prefix`, `ipv6Prefix` or the like.
 */
export function lpmTrie<K extends { prefixLen: number }, V>(options: KeyedOptions<K, V>): LpmTrie<K, V> {
  checkPrefixKey(options.name, options.key.layout);
  return declare('lpmTrie', options, options.key, options.value, MapFlag.noPrealloc);
}

/** Options of arrays. */
export interface ArrayMapOptions<V> extends ArrayOptions<V> {
  /**
   * Set: the kernel puts the values on pages of their own (BPF_F_MMAPABLE). Values of 64 bytes then start where cache
   * lines do, which they do not otherwise.
   */
  readonly mmapable?: boolean;
}

/** Declares an array. */
export function arrayMap<V>(options: ArrayMapOptions<V>): ArrayMap<V> {
  return declare('array', options, u32, options.value, options.mmapable ? MapFlag.mmapable : 0);
}

/** Declares an array with a value for each CPU. */
export function perCpuArray<V>(options: ArrayOptions<V>): PerCpuArrayMap<V> {
  return declare('perCpuArray', options, u32, options.value);
}

/** Declares a table of interfaces for `ctx.redirect(devmap, index)`. */
export function devmap(options: MapOptions): Devmap {
  return declare('devmap', options, u32, u32);
}

/** Declares a program array. */
export function programArray(options: MapOptions): ProgramArray {
  return declare('programArray', options, u32, u32);
}

/** The largest key: programs build keys on their stack, which has this many bytes (MAX_BPF_STACK). */
const MAX_KEY_BYTES = 512;
/** The largest value of a per-CPU map: PCPU_MIN_UNIT_SIZE (include/linux/percpu.h). */
const MAX_PER_CPU_BYTES = 32_768;
/** Bytes to match in an LPM key: LPM_DATA_SIZE_MAX (kernel/bpf/lpm_trie.c). */
const MAX_PREFIX_BYTES = 256;
const MAX_ENTRIES = 0xffff_ffff;

function declare<M extends AnyMap>(type: M['type'], options: MapOptions, key: Schema<unknown>, value: Schema<unknown>, flags = 0): M {
  const { name, maxEntries, global } = options;
  if (!/^[\w.-]{1,64}$/.test(name)) throw new ArgumentError(`${type}: name '${name}', expected 1 to 64 letters, digits, '_', '.' or '-'`);
  if (!Number.isSafeInteger(maxEntries) || maxEntries < 1 || maxEntries > MAX_ENTRIES)
    throw new ArgumentError(`${type} '${name}': maxEntries is ${maxEntries}, expected 1..${MAX_ENTRIES}`);
  for (const [side, { layout }] of Object.entries({ key, value }))
    if (!hasBytes(layout)) throw new ArgumentError(`${type} '${name}': the ${side} is ${layout.kind}, expected a schema with bytes`);
  if (key.layout.size > MAX_KEY_BYTES)
    throw new ArgumentError(`${type} '${name}': the key takes ${key.layout.size} bytes, expected at most ${MAX_KEY_BYTES}`);
  if (isPerCpu(type) && value.layout.size > MAX_PER_CPU_BYTES)
    throw new ArgumentError(`${type} '${name}': the value takes ${value.layout.size} bytes, expected at most ${MAX_PER_CPU_BYTES}`);
  const decl: Unbranded<AnyMap> = { kind: 'map', type, name, key, value, maxEntries, flags, ...(global === undefined ? {} : { global }) };
  return Object.freeze(decl) as M;
}
/** A declaration as it is at run time, without its phantom sides. */
type Unbranded<M> = { [K in keyof M as K extends string ? K : never]: M[K] };

function checkPrefixKey(name: string, layout: Layout): void {
  const [first, ...rest] = layout.kind === 'struct' ? Object.entries(layout.fields) : [];
  const length = first?.[1].layout;
  if (first?.[0] !== 'prefixLen' || length?.kind !== 'int' || length.size !== 4 || length.bigEndian || length.signed)
    throw new ArgumentError(`lpmTrie '${name}': the key must be a struct that starts with prefixLen: u32`);
  const bytes = layout.size - 4;
  if (rest[0]?.[1].offset !== 4 || bytes > MAX_PREFIX_BYTES)
    throw new ArgumentError(`lpmTrie '${name}': the key must have 1 to ${MAX_PREFIX_BYTES} bytes directly behind prefixLen`, {
      hint: 'use aligned(schema, 4) for a field of 8 bytes, as ipv6Prefix does',
    });
  for (const [field, { layout: part }] of rest)
    if (!inNetworkOrder(part))
      throw new ArgumentError(`lpmTrie '${name}': key.${field} is matched from its first byte, expected be16, be32, be64, mac or u8`);
}

function inNetworkOrder(layout: Layout): boolean {
  switch (layout.kind) {
    case 'int':
      return layout.bigEndian || layout.size === 1;
    case 'struct':
      return Object.values(layout.fields).every((field) => inNetworkOrder(field.layout));
    case 'array':
      return inNetworkOrder(layout.item);
    default:
      return false;
  }
}
