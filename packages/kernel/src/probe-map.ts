/** Every kind of map, looked for by making a small one and closing it. */
import { isKeyless, isMapOfMaps, isPerCpu, MapFlag, type MapSpec, MapType } from '@tailrace/bpf';
import { type Check, look } from './check.ts';
import { createMap } from './map.ts';
import { pageSize } from './mapping.ts';
import type { Capability } from './privilege.ts';

/** What every chain has. */
const needed: readonly MapType[] = ['array', 'programArray', 'perCpuArray'];
/** Kinds that hold devices and sockets are the network's (kernel/bpf/syscall.c, map_create). */
const ofTheNetwork: readonly MapType[] = ['devmap', 'devmapHash', 'sockmap', 'sockhash', 'xskmap'];
/** What a kernel must be built with to have a kind, beside CONFIG_BPF_SYSCALL. */
const built: Readonly<Partial<Record<MapType, string>>> = {
  xskmap: 'CONFIG_XDP_SOCKETS=y',
  sockmap: 'CONFIG_INET=y',
  sockhash: 'CONFIG_INET=y',
};

/** Makes a map of every kind and closes it again. */
export function probeMaps(effective: bigint): Promise<readonly Check[]> {
  const kinds = Object.keys(MapType) as MapType[];
  return Promise.all(
    kinds.map((type) => {
      const takes: readonly Capability[] = ofTheNetwork.includes(type) ? ['CAP_BPF', 'CAP_NET_ADMIN'] : ['CAP_BPF'];
      const remedy = `a kernel of Linux 6.1 or later, built with ${built[type] ?? 'CONFIG_BPF_SYSCALL=y'}`;
      return look({ id: `map.${type}`, title: titles[type], needed: needed.includes(type), remedy, takes }, effective, () => {
        createMap(smallest(type), { cpus: 1 }).close();
        return undefined;
      });
    }),
  );
}

/** A small map of a kind. */
export function smallest(type: MapType): MapSpec {
  const keySize = isKeyless(type) || type === 'ringBuffer' ? 0 : type === 'lpmTrie' ? 8 : 4;
  const valueSize = type === 'ringBuffer' ? 0 : isPerCpu(type) || type === 'lpmTrie' ? 8 : 4;
  return {
    name: `probe.${type}`,
    type,
    keySize,
    valueSize,
    maxEntries: type === 'ringBuffer' ? pageSize() : 1,
    flags: type === 'lpmTrie' ? MapFlag.noPrealloc : 0,
    ...(isMapOfMaps(type) ? { inner: smallest('array') } : {}),
  };
}

const titles: Readonly<Record<MapType, string>> = {
  hash: 'hash',
  array: 'array',
  programArray: 'program array',
  perfEventArray: 'perf event array',
  perCpuHash: 'per-CPU hash',
  perCpuArray: 'per-CPU array',
  lruHash: 'LRU hash',
  lruPerCpuHash: 'per-CPU LRU hash',
  lpmTrie: 'LPM trie',
  arrayOfMaps: 'array of maps',
  hashOfMaps: 'hash of maps',
  devmap: 'devmap',
  sockmap: 'sockmap',
  cpumap: 'cpumap',
  xskmap: 'xskmap',
  sockhash: 'sockhash',
  queue: 'queue',
  stack: 'stack',
  devmapHash: 'devmap hash',
  ringBuffer: 'ring buffer',
  bloomFilter: 'bloom filter',
};
