/** What this package's tests share: specs, and numbers as bytes. */
import type { MapSpec, MapType } from '@tailrace/bpf';

/** A map with 4-byte keys (8 for LPM tries) and 16-byte values (4 for kinds that hold descriptors). */
export function mapSpec(type: MapType, rest: Partial<MapSpec> = {}): MapSpec {
  return { name: `sample/${type}`, type, ...SIZES[type], maxEntries: 64, flags: type === 'lpmTrie' ? 1 : 0, ...rest };
}

const SIZES: Readonly<Record<MapType, { readonly keySize: number; readonly valueSize: number }>> = {
  hash: { keySize: 4, valueSize: 16 },
  array: { keySize: 4, valueSize: 16 },
  programArray: { keySize: 4, valueSize: 4 },
  perfEventArray: { keySize: 4, valueSize: 4 },
  perCpuHash: { keySize: 4, valueSize: 16 },
  perCpuArray: { keySize: 4, valueSize: 16 },
  lruHash: { keySize: 4, valueSize: 16 },
  lruPerCpuHash: { keySize: 4, valueSize: 16 },
  lpmTrie: { keySize: 8, valueSize: 16 },
  arrayOfMaps: { keySize: 4, valueSize: 4 },
  hashOfMaps: { keySize: 4, valueSize: 4 },
  devmap: { keySize: 4, valueSize: 4 },
  sockmap: { keySize: 4, valueSize: 4 },
  cpumap: { keySize: 4, valueSize: 4 },
  xskmap: { keySize: 4, valueSize: 4 },
  sockhash: { keySize: 4, valueSize: 4 },
  queue: { keySize: 0, valueSize: 4 },
  stack: { keySize: 0, valueSize: 4 },
  devmapHash: { keySize: 4, valueSize: 4 },
  ringBuffer: { keySize: 0, valueSize: 0 },
  bloomFilter: { keySize: 0, valueSize: 4 },
};

/** A u32 in host order. */
export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
