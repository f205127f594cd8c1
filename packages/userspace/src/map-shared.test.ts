/** Maps that several threads change and read at a time. */
import { Worker } from 'node:worker_threads';
import type { MapType } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { mapSpec, u32 } from './fixture.ts';
import { MAP_COUNT } from './layout.ts';
import { UserspaceMap } from './map.ts';
import { EngineMemory } from './memory.ts';
import { RUNTIME_BASE64 } from './runtime-bytes.ts';

const WORKERS = 2;

/** Runs the body of a function of (runtime, view, map, key, value, me) in each of the threads; what they return. */
async function everywhere(memory: EngineMemory, map: UserspaceMap, body: string): Promise<unknown[]> {
  const bytes = Uint8Array.from(Buffer.from(RUNTIME_BASE64, 'base64'));
  const code = `
    const { workerData: { memory, bytes, map, key, value, me }, parentPort } = require('node:worker_threads');
    const { exports: runtime } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
    const view = new DataView(memory.buffer);
    parentPort.postMessage((() => { ${body} })());
  `;
  const running = Array.from({ length: WORKERS }, (_, me) => {
    const [key, value] = [memory.allocate(64), memory.allocate(64)];
    const worker = new Worker(code, { eval: true, workerData: { memory: memory.memory, bytes, map: map.address, key, value, me } });
    return new Promise<unknown>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  });
  return Promise.all(running);
}

test.each<[MapType, number]>([
  ['hash', 4],
  ['hash', 16],
  ['hash', 20],
  ['lruHash', 8],
])('%s, keys of %i bytes: entries that stay are found while others come and go', async (type, keySize) => {
  const memory = new EngineMemory();
  // An LRU hash has room for all.
  const map = new UserspaceMap(memory, mapSpec(type, { keySize, valueSize: 4, maxEntries: 256 }), 1, 1, true);
  const keyOf = (key: number): Uint8Array => Uint8Array.from({ length: keySize }, (_, i) => u32(key)[i] ?? 0);
  for (let key = 0; key < 64; key++) map.update(keyOf(key), u32(1000 + key));
  const results = await everywhere(
    memory,
    map,
    `let missed = 0, wrong = 0, refused = 0;
     for (let i = 0; i < 60000; i++) {
       const own = 1000 * (me + 1) + (i % 50);
       view.setUint32(key, own, true);
       view.setUint32(value, own, true);
       if (i % 100 < 50 ? runtime.map_update(map, key, value, 1n, 0) !== 0n : runtime.map_delete(map, key) !== 0n) refused += 1;
       view.setUint32(key, i % 64, true);
       const found = runtime.map_lookup(map, key, 0);
       if (found === 0) missed += 1;
       else if (view.getUint32(found, true) !== 1000 + (i % 64)) wrong += 1;
     }
     return { missed, wrong, refused };`,
  );
  expect(results).toEqual(new Array(WORKERS).fill({ missed: 0, wrong: 0, refused: 0 }));
  expect([map.field(MAP_COUNT), map.readAll().count]).toEqual([64, 64]);
});

test('a trie: the longest prefix is found while others come and go', async () => {
  const memory = new EngineMemory();
  const map = new UserspaceMap(memory, mapSpec('lpmTrie', { valueSize: 4, maxEntries: 1024 }), 1, 1, true);
  const keyOf = (bits: number, ...address: number[]): Uint8Array => Uint8Array.of(...u32(bits), ...address);
  map.update(keyOf(0, 0, 0, 0, 0), u32(1));
  for (let i = 0; i < 32; i++) map.update(keyOf(16, 10, i, 0, 0), u32(100 + i));
  const results = await everywhere(
    memory,
    map,
    `let wrong = 0, refused = 0;
     for (let i = 0; i < 60000; i++) {
       view.setUint32(key, 24 + me, true);
       view.setUint32(key + 4, 10 | (i % 32) << 8 | (i % 7) << 16 | me << 31, true);
       view.setUint32(value, 7, true);
       if (runtime.map_update(map, key, value, 0n, 0) !== 0n) refused += 1;
       if (i % 2 === 0 && runtime.map_delete(map, key) !== 0n) refused += 1;
       view.setUint32(key, 32, true);
       view.setUint32(key + 4, 10 | (i % 32) << 8 | 200 << 16, true);
       const found = runtime.map_lookup(map, key, 0);
       if (found === 0 || view.getUint32(found, true) !== 100 + (i % 32)) wrong += 1;
     }
     return { wrong, refused };`,
  );
  expect(results).toEqual(new Array(WORKERS).fill({ wrong: 0, refused: 0 }));
  expect(map.readAll().count).toBe(map.field(MAP_COUNT));
});

test('a queue: each value comes out once', async () => {
  const memory = new EngineMemory();
  const map = new UserspaceMap(memory, mapSpec('queue', { maxEntries: 16 }), 1, 1, true);
  const results = await everywhere(
    memory,
    map,
    `const taken = [];
     for (let i = 0; i < 20000; ) {
       view.setUint32(value, me * 100000 + i, true);
       if (runtime.map_push(map, value, 0n) === 0n) i += 1;
       if (runtime.map_pop(map, value) === 0n) taken.push(view.getUint32(value, true));
     }
     return taken;`,
  );
  const taken = (results as number[][]).flat();
  for (let value = map.pop(); value; value = map.pop()) taken.push(new DataView(value.buffer).getUint32(0, true));
  expect([taken.length, new Set(taken).size]).toEqual([WORKERS * 20_000, WORKERS * 20_000]);
});

test('an LRU hash that is always full', async () => {
  const memory = new EngineMemory();
  const map = new UserspaceMap(memory, mapSpec('lruHash', { valueSize: 4, maxEntries: 32 }), 1, 1, true);
  const results = await everywhere(
    memory,
    map,
    `let refused = 0;
     for (let i = 0; i < 60000; i++) {
       view.setUint32(key, (i * 7919) % 500, true);
       if (runtime.map_lookup(map, key, 0) === 0 && runtime.map_update(map, key, value, 0n, 0) !== 0n) refused += 1;
     }
     return refused;`,
  );
  expect(results).toEqual(new Array(WORKERS).fill(0));
  expect([map.field(MAP_COUNT), map.readAll().count]).toEqual([32, 32]);
});
