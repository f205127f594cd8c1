/** Map specs: what a map is, before any engine has made it, and which the kernel takes. */
import { ArgumentError } from './errors.ts';

/** Kernel map kinds (enum bpf_map_type, include/uapi/linux/bpf.h). */
export const MapType = {
  hash: 1,
  array: 2,
  programArray: 3,
  perfEventArray: 4,
  perCpuHash: 5,
  perCpuArray: 6,
  lruHash: 9,
  lruPerCpuHash: 10,
  lpmTrie: 11,
  arrayOfMaps: 12,
  hashOfMaps: 13,
  devmap: 14,
  sockmap: 15,
  cpumap: 16,
  xskmap: 17,
  sockhash: 18,
  queue: 22,
  stack: 23,
  devmapHash: 25,
  ringBuffer: 27,
  bloomFilter: 30,
} as const;
export type MapType = keyof typeof MapType;

/** BPF_MAP_CREATE flags that Tailrace uses. With `readOnlyProgram`, programs cannot write values. */
export const MapFlag = { noPrealloc: 1, readOnlyProgram: 1 << 7, mmapable: 1 << 10 } as const;

/** Update flags of `bpf_map_update_elem`. */
export const UpdateFlag = { any: 0, noexist: 1, exist: 2 } as const;
export type UpdateFlag = keyof typeof UpdateFlag;

/** A blueprint of one kernel map: deterministic, independent of the host. */
export interface MapSpec {
  /** Full name, e.g. `l4lb/conns`; the engine shortens it to the kernel's 15 characters. */
  readonly name: string;
  readonly type: MapType;
  /** Bytes of a key. */
  readonly keySize: number;
  /** Bytes of one value; per-CPU kinds hold one for each CPU. */
  readonly valueSize: number;
  /** Of a ring buffer: its bytes. Of a perf event array: slots, 0 for one each CPU that the host may have. */
  readonly maxEntries: number;
  /** BPF_MAP_CREATE flags. */
  readonly flags: number;
  /** Maps of maps: the blueprint of every inner map. */
  readonly inner?: MapSpec;
  /** `map_extra`. Bloom filters: how many hashes a value is looked up by, 1 to 15; the kernel takes 5 unless said otherwise. */
  readonly extra?: number;
  /**
   * Encoded BTF blob that describes key and value, with their type ids; absent where the kind takes none. Bloom filters
   * have no key: its type id is 0 (void).
   */
  readonly btf?: { readonly blob: Uint8Array; readonly keyTypeId: number; readonly valueTypeId: number };
}

/** True for kinds that hold one value for each possible CPU. */
export function isPerCpu(type: MapType): boolean {
  return type === 'perCpuHash' || type === 'perCpuArray' || type === 'lruPerCpuHash';
}

/** True for kinds whose values are maps. */
export function isMapOfMaps(type: MapType): boolean {
  return type === 'arrayOfMaps' || type === 'hashOfMaps';
}

/** True for kinds without keys: values are put in and taken out, or added and asked for. */
export function isKeyless(type: MapType): boolean {
  return type === 'queue' || type === 'stack' || type === 'bloomFilter';
}

/** True for kinds whose keys and values BTF may describe. */
export function isDescribable(type: MapType): boolean {
  return RULES[type].btf;
}

/** True for kinds that can be map values: what programs work on by key or by value. */
export function canBeInner(type: MapType): boolean {
  return RULES[type].inner;
}

/** A spec with what the host decides, for engines that make the map: `cpus` is how many values per-CPU maps have there. */
export function specOnHost(spec: MapSpec, cpus: number): MapSpec {
  return spec.type === 'perfEventArray' && spec.maxEntries === 0 ? { ...spec, maxEntries: cpus } : spec;
}

/** Whether a ring buffer may have so many bytes: a power of two of at least 4,096. Kernels with larger pages want one of theirs. */
export function isRingSize(bytes: number): boolean {
  return bytes >= 4096 && Number.isInteger(Math.log2(bytes));
}

/** What a kind demands of its spec. Sizes are bytes: the least and the most. */
interface MapRule {
  readonly key: readonly [number, number];
  readonly value: readonly [number, number];
  /** BPF_F_NO_PREALLOC: some kinds demand it, some refuse it. */
  readonly noPrealloc: 'must' | 'may' | 'never';
  /** Whether BTF may describe key and value. */
  readonly btf: boolean;
  /** Whether maps of maps may hold it. */
  readonly inner: boolean;
}

const INDEX = [4, 4] as const;
const ANY = [1, 0x7fff_ffff] as const;
const PER_CPU = [1, 32_768] as const; // PCPU_MIN_UNIT_SIZE
const LPM_KEY = [5, 260] as const; // u32 prefix length and 1 to 256 bytes: LPM_KEY_SIZE_MIN, LPM_KEY_SIZE_MAX
const SOCKET_KEY = [1, 512] as const; // MAX_BPF_STACK
const NONE = [0, 0] as const;
/** 4 or 8: a descriptor, and behind it something more or a wider look at it. */
const DESCRIPTOR = [4, 8] as const;

/** From the `alloc_check` of each kind (kernel/bpf/*.c, net/core/sock_map.c and net/xdp/xskmap.c at v6.18). */
const RULES: Readonly<Record<MapType, MapRule>> = {
  hash: { key: ANY, value: ANY, noPrealloc: 'may', btf: true, inner: true },
  array: { key: INDEX, value: ANY, noPrealloc: 'never', btf: true, inner: true },
  programArray: { key: INDEX, value: [4, 4], noPrealloc: 'never', btf: false, inner: false },
  perfEventArray: { key: INDEX, value: [4, 4], noPrealloc: 'never', btf: false, inner: false },
  perCpuHash: { key: ANY, value: PER_CPU, noPrealloc: 'may', btf: true, inner: true },
  perCpuArray: { key: INDEX, value: PER_CPU, noPrealloc: 'never', btf: true, inner: true },
  lruHash: { key: ANY, value: ANY, noPrealloc: 'never', btf: true, inner: true },
  lruPerCpuHash: { key: ANY, value: PER_CPU, noPrealloc: 'never', btf: true, inner: true },
  lpmTrie: { key: LPM_KEY, value: ANY, noPrealloc: 'must', btf: true, inner: true },
  arrayOfMaps: { key: INDEX, value: [4, 4], noPrealloc: 'never', btf: false, inner: false },
  hashOfMaps: { key: ANY, value: [4, 4], noPrealloc: 'may', btf: false, inner: false },
  devmap: { key: INDEX, value: DESCRIPTOR, noPrealloc: 'never', btf: false, inner: false },
  sockmap: { key: INDEX, value: DESCRIPTOR, noPrealloc: 'never', btf: false, inner: false },
  cpumap: { key: INDEX, value: DESCRIPTOR, noPrealloc: 'never', btf: false, inner: false },
  xskmap: { key: INDEX, value: [4, 4], noPrealloc: 'never', btf: false, inner: false },
  sockhash: { key: SOCKET_KEY, value: DESCRIPTOR, noPrealloc: 'never', btf: false, inner: false },
  queue: { key: NONE, value: ANY, noPrealloc: 'never', btf: false, inner: true },
  stack: { key: NONE, value: ANY, noPrealloc: 'never', btf: false, inner: true },
  devmapHash: { key: INDEX, value: DESCRIPTOR, noPrealloc: 'never', btf: false, inner: false },
  ringBuffer: { key: NONE, value: NONE, noPrealloc: 'never', btf: false, inner: false },
  bloomFilter: { key: NONE, value: ANY, noPrealloc: 'never', btf: true, inner: true },
};

/**
 * Checks a spec against what the kernel takes for its kind, so that a mistake has a name instead of EINVAL. Throws
 * ArgumentError that names map, field and what was expected.
 */
export function checkMapSpec(spec: MapSpec): void {
  const rule = RULES[spec.type];
  if (spec.name === '') throw new ArgumentError(`a ${spec.type} map without a name, expected one`);
  checkSize(spec, 'keySize', rule.key);
  checkSize(spec, 'valueSize', rule.value);
  if (rule.value === DESCRIPTOR && spec.valueSize !== 4 && spec.valueSize !== 8) refuse(spec, 'valueSize', spec.valueSize, '4 or 8');
  checkSize(spec, 'maxEntries', [spec.type === 'perfEventArray' ? 0 : 1, 0xffff_ffff]);
  if (spec.type === 'ringBuffer' && !isRingSize(spec.maxEntries))
    refuse(spec, 'maxEntries', spec.maxEntries, 'a power of two from 4096 on');
  checkSize(spec, 'flags', [0, 0xffff_ffff]);
  const noPrealloc = (spec.flags & MapFlag.noPrealloc) !== 0;
  if (rule.noPrealloc === 'must' && !noPrealloc) refuse(spec, 'flags', spec.flags, 'BPF_F_NO_PREALLOC');
  if (rule.noPrealloc === 'never' && noPrealloc) refuse(spec, 'flags', spec.flags, 'no BPF_F_NO_PREALLOC');
  if ((spec.flags & MapFlag.mmapable) !== 0 && spec.type !== 'array') refuse(spec, 'flags', spec.flags, 'no BPF_F_MMAPABLE');
  if (spec.btf && !rule.btf) refuse(spec, 'btf', 'present', 'none');
  if (spec.extra !== undefined && (spec.type !== 'bloomFilter' || !Number.isInteger(spec.extra) || spec.extra < 1 || spec.extra > 15))
    refuse(spec, 'extra', spec.extra, spec.type === 'bloomFilter' ? '1 to 15' : 'none');
  checkInner(spec);
}

function checkInner(spec: MapSpec): void {
  const { inner } = spec;
  if ((inner !== undefined) !== isMapOfMaps(spec.type)) refuse(spec, 'inner', inner ? 'present' : 'missing', inner ? 'none' : 'a map spec');
  if (inner === undefined) return;
  if (!RULES[inner.type].inner) refuse(spec, 'inner', `of type ${inner.type}`, 'a kind that programs look things up in');
  checkMapSpec(inner);
}

function checkSize(spec: MapSpec, field: 'keySize' | 'valueSize' | 'maxEntries' | 'flags', [least, most]: readonly [number, number]): void {
  const value = spec[field];
  if (Number.isInteger(value) && value >= least && value <= most) return;
  refuse(spec, field, value, least === most ? String(least) : `${least} to ${most}`);
}

function refuse(spec: MapSpec, field: keyof MapSpec, value: number | string, expected: string): never {
  throw new ArgumentError(`map ${spec.name} (${spec.type}): ${field} is ${value}, expected ${expected}`);
}
