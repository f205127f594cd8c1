/** Map specs: what a map is, before any engine has made it. */

/** Kernel map kinds (enum bpf_map_type, include/uapi/linux/bpf.h). */
export const MapType = {
  hash: 1,
  array: 2,
  programArray: 3,
  perCpuHash: 5,
  perCpuArray: 6,
  lruHash: 9,
  lruPerCpuHash: 10,
  lpmTrie: 11,
  devmap: 14,
} as const;
export type MapType = keyof typeof MapType;

/** BPF_MAP_CREATE flags that Tailrace uses. */
export const MapFlag = { noPrealloc: 1, mmapable: 1 << 10 } as const;

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
  readonly maxEntries: number;
  /** BPF_MAP_CREATE flags. */
  readonly flags: number;
  /** Encoded BTF blob that describes key and value, with their type ids; absent where the kind takes none. */
  readonly btf?: { readonly blob: Uint8Array; readonly keyTypeId: number; readonly valueTypeId: number };
}

/** True for kinds that hold one value for each possible CPU. */
export function isPerCpu(type: MapType): boolean {
  return type === 'perCpuHash' || type === 'perCpuArray' || type === 'lruPerCpuHash';
}
