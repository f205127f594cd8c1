import { describe, expect, it } from 'vitest';
import { ArgumentError } from './errors.ts';
import { checkMapSpec, MapFlag, type MapSpec } from './map.ts';

const hash: MapSpec = { name: 'conns', type: 'hash', keySize: 16, valueSize: 8, maxEntries: 10, flags: 0 };
const array: MapSpec = { ...hash, type: 'array', keySize: 4 };
const trie: MapSpec = { ...hash, type: 'lpmTrie', keySize: 8, flags: MapFlag.noPrealloc };
const programArray: MapSpec = { ...array, type: 'programArray', valueSize: 4 };
const ring: MapSpec = { ...hash, type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: 4096 };
const queue: MapSpec = { ...hash, type: 'queue', keySize: 0 };
const btf = { blob: new Uint8Array(24), keyTypeId: 1, valueTypeId: 1 };

describe('checkMapSpec', () => {
  it.each([
    ['a hash', hash],
    ['a hash that allocates late', { ...hash, flags: MapFlag.noPrealloc }],
    ['an array', array],
    ['an array to map into memory', { ...array, flags: MapFlag.mmapable, btf }],
    ['a trie', trie],
    ['a program array', programArray],
    ['a devmap with programs', { ...array, type: 'devmap', valueSize: 8 }],
    ['a ring buffer', ring],
    ['a perf event array with a slot for each CPU', { ...programArray, type: 'perfEventArray', maxEntries: 0 }],
    ['a queue', { ...queue, valueSize: 4096 }],
    ['a bloom filter', { ...queue, type: 'bloomFilter', extra: 15, btf: { ...btf, keyTypeId: 0 } }],
    ['a hash of maps', { ...hash, type: 'hashOfMaps', valueSize: 4, inner: hash }],
    ['an array of queues', { ...array, type: 'arrayOfMaps', valueSize: 4, inner: queue }],
    ['a map of sockets', { ...hash, type: 'sockhash' }],
    ['a table of CPUs', { ...array, type: 'cpumap', valueSize: 4 }],
    ['an LRU for each CPU', { ...hash, type: 'lruPerCpuHash', valueSize: 32_768 }],
  ] satisfies [string, MapSpec][])('takes %s', (_name, spec) => {
    expect(() => checkMapSpec(spec)).not.toThrow();
  });

  it.each([
    [{ ...hash, name: '' }, 'a hash map without a name, expected one'],
    [{ ...hash, keySize: 0 }, 'map conns (hash): keySize is 0, expected 1 to 2147483647'],
    [{ ...array, keySize: 8 }, 'map conns (array): keySize is 8, expected 4'],
    [{ ...programArray, valueSize: 8 }, 'map conns (programArray): valueSize is 8, expected 4'],
    [{ ...array, type: 'devmap', valueSize: 6 }, 'map conns (devmap): valueSize is 6, expected 4 or 8'],
    [{ ...array, type: 'perCpuArray', valueSize: 40_000 }, 'map conns (perCpuArray): valueSize is 40000, expected 1 to 32768'],
    [{ ...trie, keySize: 4 }, 'map conns (lpmTrie): keySize is 4, expected 5 to 260'],
    [{ ...trie, flags: 0 }, 'map conns (lpmTrie): flags is 0, expected BPF_F_NO_PREALLOC'],
    [{ ...hash, type: 'lruHash', flags: 1 }, 'map conns (lruHash): flags is 1, expected no BPF_F_NO_PREALLOC'],
    [{ ...hash, flags: MapFlag.mmapable }, 'map conns (hash): flags is 1024, expected no BPF_F_MMAPABLE'],
    [{ ...hash, maxEntries: 0 }, 'map conns (hash): maxEntries is 0, expected 1 to 4294967295'],
    [{ ...hash, maxEntries: 1.5 }, 'map conns (hash): maxEntries is 1.5, expected 1 to 4294967295'],
    [{ ...array, type: 'perfEventArray' }, 'map conns (perfEventArray): valueSize is 8, expected 4'],
    [{ ...ring, valueSize: 8 }, 'map conns (ringBuffer): valueSize is 8, expected 0'],
    [{ ...ring, maxEntries: 2048 }, 'map conns (ringBuffer): maxEntries is 2048, expected a power of two from 4096 on'],
    [{ ...ring, maxEntries: 12_288 }, 'map conns (ringBuffer): maxEntries is 12288, expected a power of two from 4096 on'],
    [{ ...queue, keySize: 4 }, 'map conns (queue): keySize is 4, expected 0'],
    [{ ...queue, flags: 1 }, 'map conns (queue): flags is 1, expected no BPF_F_NO_PREALLOC'],
    [{ ...queue, btf }, 'map conns (queue): btf is present, expected none'],
    [{ ...queue, type: 'bloomFilter', extra: 0 }, 'map conns (bloomFilter): extra is 0, expected 1 to 15'],
    [{ ...hash, extra: 5 }, 'map conns (hash): extra is 5, expected none'],
    [{ ...hash, type: 'sockhash', keySize: 513 }, 'map conns (sockhash): keySize is 513, expected 1 to 512'],
    [{ ...array, type: 'devmapHash', valueSize: 16 }, 'map conns (devmapHash): valueSize is 16, expected 4 to 8'],
    [{ ...hash, inner: hash }, 'map conns (hash): inner is present, expected none'],
    [{ ...hash, type: 'hashOfMaps', valueSize: 4 }, 'map conns (hashOfMaps): inner is missing, expected a map spec'],
    [
      { ...array, type: 'arrayOfMaps', valueSize: 4, inner: programArray },
      'map conns (arrayOfMaps): inner is of type programArray, expected a kind that programs look things up in',
    ],
    [
      { ...array, type: 'arrayOfMaps', valueSize: 4, inner: { ...hash, name: 'inner', keySize: 0 } },
      'map inner (hash): keySize is 0, expected 1 to 2147483647',
    ],
    [{ ...programArray, btf }, 'map conns (programArray): btf is present, expected none'],
  ] satisfies [MapSpec, string][])('refuses %o', (spec, message) => {
    expect(() => checkMapSpec(spec)).toThrow(new ArgumentError(message));
  });
});
