/** Map operations from Node, each one system call, and batches. */
import { type EngineInstance, type LoadedMap, MapFlag, type MapSpec, type MapType } from '@tailrace/bpf';
import { openMachine } from '../contest.ts';
import { measureTask, type Task } from '../node-run.ts';
import type { Suite } from '../row.ts';

const ENTRIES = 100_000;
const KEY_BYTES = 16;
const VALUE_BYTES = 16;
const PREFIXES = 10_000;
const NO_KEY = new Uint8Array(0);

/** The suite. */
export const map: Suite = {
  name: 'map',
  hook: null,
  about: `map operations from Node, ns an entry; hashes of ${ENTRIES.toLocaleString('en-GB')} entries, ${KEY_BYTES}-byte keys and values; ${PREFIXES.toLocaleString('en-GB')} prefixes`,
  cases: [
    'hash lookup',
    'hash lookup, missing',
    'hash update',
    'hash insert and delete',
    'array lookup',
    'per-CPU lookup',
    'LPM lookup',
    'queue push and pop',
    'bloom filter test',
    'read all',
    'update batch',
  ],
  async run(effort, wanted) {
    await using instance = await openMachine();
    const rows = tasks(instance).filter(({ name }) => wanted(name));
    return { rows: rows.map((task) => measureTask(task, effort)), notes: [] };
  },
};

function tasks(instance: EngineInstance): readonly Task[] {
  const hash = instance.createMap(spec('hash', KEY_BYTES, ENTRIES));
  const array = instance.createMap(spec('array', 4, ENTRIES));
  const perCpu = instance.createMap(spec('perCpuArray', 4, 1_000));
  const trie = instance.createMap({ ...spec('lpmTrie', 8, PREFIXES), flags: MapFlag.noPrealloc });
  for (let index = 0; index < PREFIXES; index++) trie.update(prefixOf(index, 24), new Uint8Array(VALUE_BYTES));
  const queue = instance.createMap(spec('queue', 0, 16));
  const bloom = instance.createMap(spec('bloomFilter', 0, ENTRIES));
  const count = ENTRIES - 1;
  const batch = { count, keys: keysOf(count), values: new Uint8Array(count * VALUE_BYTES) };
  hash.updateBatch(batch);
  const next = cycle(batch.keys, count);
  const value = new Uint8Array(VALUE_BYTES);
  const absent = new Uint8Array(KEY_BYTES).fill(0xff);
  bloom.update(NO_KEY, value);
  const index = new Uint8Array(4);
  const address = prefixOf(PREFIXES / 2, 32);
  return [
    { suite: 'map', name: 'hash lookup', work: () => hash.lookup(next()) },
    { suite: 'map', name: 'hash lookup, missing', work: () => hash.lookup(absent) },
    { suite: 'map', name: 'hash update', work: () => hash.update(next(), value) },
    { suite: 'map', name: 'hash insert and delete', work: () => insertAndDelete(hash, absent, value) },
    { suite: 'map', name: 'array lookup', work: () => array.lookup(index) },
    { suite: 'map', name: 'per-CPU lookup', work: () => perCpu.lookup(index) },
    { suite: 'map', name: 'LPM lookup', work: () => trie.lookup(address) },
    { suite: 'map', name: 'queue push and pop', work: () => pushAndPop(queue, value) },
    { suite: 'map', name: 'bloom filter test', work: () => bloom.has(value) },
    { suite: 'map', name: 'read all', work: () => hash.readAll(), operations: count },
    { suite: 'map', name: 'update batch', work: () => hash.updateBatch(batch), operations: count },
  ];
}

function insertAndDelete(target: LoadedMap, key: Uint8Array, value: Uint8Array): void {
  target.update(key, value, 'noexist');
  target.delete(key);
}

function pushAndPop(target: LoadedMap, value: Uint8Array): void {
  target.update(NO_KEY, value);
  target.pop();
}

/** The key of an IPv4 prefix: different /24s, one for each index. */
function prefixOf(index: number, length: number): Uint8Array {
  return new Uint8Array([length, 0, 0, 0, 11, (index >> 8) & 255, index & 255, length === 32 ? 7 : 0]);
}

function spec(type: MapType, keySize: number, maxEntries: number): MapSpec {
  return { name: `bench/${type}`, type, keySize, valueSize: VALUE_BYTES, maxEntries, flags: 0 };
}

/** Distinct keys, one after the other. */
function keysOf(count: number): Uint8Array {
  const keys = new Uint8Array(count * KEY_BYTES);
  const view = new DataView(keys.buffer);
  for (let index = 0; index < count; index++) view.setUint32(index * KEY_BYTES, index, true);
  return keys;
}

/** Each call gives the next key, in an order that no cache foresees. */
function cycle(keys: Uint8Array, count: number): () => Uint8Array {
  let index = 0;
  return () => {
    index = (index + 48_271) % count;
    return keys.subarray(index * KEY_BYTES, (index + 1) * KEY_BYTES);
  };
}
