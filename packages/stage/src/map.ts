/**
 * Map declarations: what a stage names in its `uses`. A declaration is a value, and identity is the value: two stages
 * that use one declaration share one map. Making the map is the registry's work, in the pipeline package.
 */
import { ArgumentError, MapFlag, type UpdateFlag } from '@tailrace/bpf';
import type { ArrayHandle, KeyedHandle, PerCpuArrayHandle, PerCpuHandle, ProgramArrayHandle } from './handle.ts';
import type { Layout } from './layout.ts';
import { declareMap, type MapDecl, type MapOptions } from './map-decl.ts';
import type { phantom } from './resource.ts';
import { type Ref, type Schema, u32 } from './schema.ts';

export type { AnyMap, MapDecl, MapOptions } from './map-decl.ts';

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
/** Longest-prefix match: `lookup`, and `get` of the handle, find the longest prefix that holds the key. */
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
/** Programs to tail-call, by slot. */
export interface ProgramArray extends MapDecl<Slots, ProgramArrayHandle> {
  readonly type: 'programArray';
}

/** Options of maps whose values have a schema. */
export interface ArrayOptions<V> extends MapOptions {
  readonly value: Schema<V>;
}
/** Options of maps whose keys have one too. */
export interface KeyedOptions<K, V> extends ArrayOptions<V> {
  readonly key: Schema<K>;
}
/** Options of hash tables that do not evict. */
export interface HashOptions<K, V> extends KeyedOptions<K, V> {
  /**
   * Set: entries take memory only while they are there (BPF_F_NO_PREALLOC), which suits tables that are large and mostly
   * empty. Inserting is slower then, and may fail in a program where memory is short.
   */
  readonly noPrealloc?: boolean;
}

/** Declares a hash table. Throws ArgumentError, as all of these do, for options that no kernel takes. */
export function hash<K, V>(options: HashOptions<K, V>): HashMap<K, V> {
  const { key, value, noPrealloc } = options;
  return declareMap('hash', options, { key, value, flags: noPrealloc ? MapFlag.noPrealloc : 0 });
}

/** Declares a hash table that evicts. */
export function lruHash<K, V>(options: KeyedOptions<K, V>): LruHashMap<K, V> {
  const { key, value } = options;
  return declareMap('lruHash', options, { key, value });
}

/** Declares a hash table with a value for each CPU. */
export function perCpuHash<K, V>(options: HashOptions<K, V>): PerCpuHashMap<K, V> {
  const { key, value, noPrealloc } = options;
  return declareMap('perCpuHash', options, { key, value, flags: noPrealloc ? MapFlag.noPrealloc : 0 });
}

/** Declares an evicting hash table with a value for each CPU. */
export function lruPerCpuHash<K, V>(options: KeyedOptions<K, V>): LruPerCpuHashMap<K, V> {
  const { key, value } = options;
  return declareMap('lruPerCpuHash', options, { key, value });
}

/**
 * Declares a longest-prefix match. The key is a struct of `prefixLen: u32` and, directly behind it, the 1 to 256 bytes
 * to match, in network order: `ipv4Prefix`, `ipv6Prefix` or the like.
 */
export function lpmTrie<K extends { prefixLen: number }, V>(options: KeyedOptions<K, V>): LpmTrie<K, V> {
  const { name, key, value } = options;
  checkPrefixKey(name, key.layout);
  return declareMap('lpmTrie', options, { key, value, flags: MapFlag.noPrealloc });
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
  const { value, mmapable } = options;
  return declareMap('array', options, { key: u32, value, flags: mmapable ? MapFlag.mmapable : 0 });
}

/** Declares an array with a value for each CPU. */
export function perCpuArray<V>(options: ArrayOptions<V>): PerCpuArrayMap<V> {
  return declareMap('perCpuArray', options, { key: u32, value: options.value });
}

/** Declares a program array. */
export function programArray(options: MapOptions): ProgramArray {
  return declareMap('programArray', options, { key: u32, value: u32 });
}

/** Bytes to match in an LPM key: LPM_DATA_SIZE_MAX (kernel/bpf/lpm_trie.c). */
const MAX_PREFIX_BYTES = 256;

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
