import { spawn } from 'node:child_process';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { ArgumentError } from '@tailrace/bpf';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { mapSpec } from './fixture.ts';
import { UserspaceMap } from './map.ts';
import { EngineMemory } from './memory.ts';
import { openRingBuffer, type UserspaceReader } from './ring.ts';
import { RUNTIME_BASE64 } from './runtime-bytes.ts';

const memory = new EngineMemory();
const { runtime } = memory;
const data = memory.allocate(8192);
const [AVAILABLE, SIZE, CONSUMER, PRODUCER] = [0n, 1n, 2n, 3n];
const NO_WAKEUP = 1n;

const open: Disposable[] = [];
afterEach(() => {
  for (const thing of open.splice(0).reverse()) thing[Symbol.dispose]();
});

function make(bytes = 4096): UserspaceMap {
  const map = new UserspaceMap(memory, mapSpec('ringBuffer', { name: 'ring', maxEntries: bytes }), 1, 1);
  open.push({ [Symbol.dispose]: () => map.close() });
  return map;
}

function reader(map: UserspaceMap, onReadable: () => void = () => undefined): UserspaceReader {
  const made = openRingBuffer(memory, map, onReadable);
  open.push(made);
  return made;
}

/** Writes a number at both ends of a record; false where there was no place. */
function write({ address }: UserspaceMap, number: number, length = 24, discard = 0, flags = 0n): boolean {
  const sample = runtime.ring_reserve(address, BigInt(length), 0n);
  if (sample === 0) return false;
  memory.view.setBigUint64(sample, BigInt(number), true);
  memory.view.setBigUint64(sample + length - 8, BigInt(number), true);
  runtime.ring_commit(sample, flags, discard);
  return true;
}

function numbers(from: UserspaceReader, limit = 1e9): number[] {
  const found: number[] = [];
  from.read(limit, (view, offset, length) => {
    const number = Number(view.getBigUint64(offset, true));
    expect(Number(view.getBigUint64(offset + length - 8, true))).toBe(number);
    found.push(number);
  });
  return found;
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

test('records come in order, and what was read makes room', () => {
  const ring = make();
  const from = reader(ring);
  expect([from.pending, numbers(from)]).toEqual([0, []]);
  for (const number of range(0, 10)) write(ring, number);
  expect(from.pending).toBe(10 * 32);
  expect(numbers(from, 4)).toEqual([0, 1, 2, 3]);
  expect(from.pending).toBe(6 * 32);
  expect(numbers(from)).toEqual([4, 5, 6, 7, 8, 9]);
  const written = range(10, 500).filter((number) => write(ring, number));
  expect(written).toEqual(range(10, 10 + 4096 / 32 - 1));
  expect(from.pending).toBe(4096 - 32);
  expect(numbers(from)).toEqual(written);
});

test('records of any length, thrown away or not, against a model', () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ length: fc.integer({ min: 16, max: 1500 }), discard: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ read: fc.nat(4) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (steps) => {
      const ring = make();
      const from = reader(ring);
      const model: { number: number; bytes: number; discard: boolean }[] = [];
      let [produced, consumed] = [0, 0];
      for (const [number, step] of steps.entries()) {
        if ('read' in step) {
          const wanted: number[] = [];
          while (wanted.length < step.read && model.length > 0) {
            const { number, bytes, discard } = model.shift() as (typeof model)[number];
            consumed += bytes;
            if (!discard) wanted.push(number);
          }
          expect(numbers(from, step.read)).toEqual(wanted);
        } else {
          const bytes = Math.ceil((step.length + 8) / 8) * 8;
          const fits = produced + bytes - consumed < 4096;
          expect(write(ring, number, step.length, step.discard ? 1 : 0)).toBe(fits);
          if (!fits) continue;
          produced += bytes;
          model.push({ number, bytes, discard: step.discard });
        }
        const query = [AVAILABLE, SIZE, CONSUMER, PRODUCER, 4n].map((what) => Number(runtime.ring_query(ring.address, what)));
        expect(query).toEqual([produced - consumed, 4096, consumed, produced, 0]);
      }
      from.close();
      ring.close();
    }),
    { numRuns: 40 },
  );
});

test('a record may fill all but 8 bytes of the ring, header and all', () => {
  const ring = make();
  const from = reader(ring);
  for (let round = 0; round < 5; round++) {
    expect(write(ring, round, 4096 - 16)).toBe(true);
    expect(write(ring, round, 8)).toBe(false);
    expect(numbers(from)).toEqual([round]);
  }
  expect(write(ring, 0, 4096 - 8)).toBe(false);
  for (const size of [4096n, 0x3fff_ffffn, 0x4000_0000n, 1n << 32n, 1n << 63n])
    expect(runtime.ring_reserve(ring.address, size, 0n)).toBe(0);
  expect(runtime.ring_reserve(ring.address, 8n, 1n)).toBe(0);
});

test('positions go on beyond 4 GiB', () => {
  const ring = make();
  const start = 2n ** 32n - 64n;
  memory.view.setBigUint64(runtime.ring_producer(ring.address), start, true);
  memory.view.setBigUint64(runtime.ring_consumer(ring.address), start, true);
  const from = reader(ring);
  for (const number of range(0, 4)) write(ring, number);
  expect([from.pending, numbers(from)]).toEqual([128, [0, 1, 2, 3]]);
  expect([CONSUMER, PRODUCER].map((what) => runtime.ring_query(ring.address, what))).toEqual([start + 128n, start + 128n]);
  expect(range(0, 500).filter((number) => write(ring, number))).toHaveLength(127);
});

test('output copies, and says why it does not', () => {
  const ring = make();
  const from = reader(ring);
  memory.view.setBigUint64(data, 77n, true);
  expect(runtime.ring_output(ring.address, data, 8n, 0n)).toBe(0n);
  expect(runtime.ring_output(ring.address, data, 8n, 2n)).toBe(0n);
  expect(runtime.ring_output(ring.address, data, 8n, 4n)).toBe(-22n);
  expect(runtime.ring_output(ring.address, data, 4080n, 0n)).toBe(-11n);
  expect(numbers(from)).toEqual([77, 77]);
});

test('what is not submitted yet holds up what comes behind it', () => {
  const ring = make();
  const from = reader(ring);
  const sample = runtime.ring_reserve(ring.address, 8n, 0n);
  write(ring, 2);
  expect([numbers(from), from.pending]).toEqual([[], 48]);
  memory.view.setBigUint64(sample, 1n, true);
  runtime.ring_commit(sample, 0n, 0);
  expect(numbers(from)).toEqual([1, 2]);
});

test('the next reader goes on where the last one stopped', () => {
  const ring = make();
  for (const number of range(0, 5)) write(ring, number);
  const first = reader(ring);
  expect(numbers(first, 2)).toEqual([0, 1]);
  first.close();
  first.close();
  expect(() => first.pending).toThrow(new ArgumentError('the reader of ring buffer ring is closed'));
  expect(() => first.read(1, () => undefined)).toThrow('closed');
  expect(() => first.arm()).toThrow('closed');
  const second = reader(ring);
  write(ring, 5);
  expect(numbers(second)).toEqual([2, 3, 4, 5]);
});

test('an error of the listener goes on, and its record is read', () => {
  const ring = make();
  const from = reader(ring);
  for (const number of range(0, 3)) write(ring, number);
  expect(() =>
    from.read(10, () => {
      throw new RangeError('mine');
    }),
  ).toThrow('mine');
  expect(numbers(from)).toEqual([1, 2]);
});

test('a listener may close the reader, and may not read', () => {
  const ring = make();
  const from = reader(ring);
  for (const number of range(0, 3)) write(ring, number);
  expect(() => from.read(1, () => from.read(1, () => undefined))).toThrow(
    new ArgumentError('ring buffer ring is read by its own listener'),
  );
  expect(from.read(10, () => from.close())).toBe(1);
  expect(numbers(reader(ring))).toEqual([2]);
});

test('a reader holds the ring', () => {
  const ring = make();
  const from = reader(ring);
  write(ring, 1);
  ring.close();
  expect(numbers(from)).toEqual([1]);
  const { used } = memory;
  from.close();
  expect(memory.used).toBe(used - 8192 - 192);
});

test('armed, it calls once, as soon as there is something', async () => {
  const ring = make();
  let calls = 0;
  const from = reader(ring, () => {
    calls += 1;
  });
  write(ring, 0);
  await turn();
  await turn();
  expect(calls).toBe(0);
  from.arm();
  from.arm();
  expect(calls).toBe(0);
  await expect.poll(() => calls).toBe(1);
  write(ring, 1);
  await turn();
  expect(calls).toBe(1);
  numbers(from);
  from.arm();
  await turn();
  await turn();
  expect(calls).toBe(1);
  write(ring, 2);
  await expect.poll(() => calls).toBe(2);
  from.arm();
  from.disarm();
  from.disarm();
  await turn();
  await turn();
  expect(calls).toBe(2);
  numbers(from);
  // Disarmed while it waits, and armed again.
  from.arm();
  from.disarm();
  write(ring, 3);
  await turn();
  numbers(from);
  from.arm();
  await turn();
  expect(calls).toBe(2);
  write(ring, 4);
  await expect.poll(() => calls).toBe(3);
});

test('the engine may tell it on the same turn; records without a wake-up call nobody', async () => {
  const ring = make();
  let calls = 0;
  const from = reader(ring, () => {
    calls += 1;
  });
  from.notify();
  from.arm();
  write(ring, 0, 24, 0, NO_WAKEUP);
  from.notify();
  await turn();
  await turn();
  expect(calls).toBe(0);
  write(ring, 1);
  from.notify();
  from.notify();
  await turn();
  expect(calls).toBe(1);
  await turn();
  await turn();
  expect(calls).toBe(1);
});

test('closing while a call is under way takes it back', async () => {
  const ring = make();
  let calls = 0;
  const from = reader(ring, () => {
    calls += 1;
  });
  write(ring, 0);
  from.arm();
  from.close();
  for (let i = 0; i < 3; i++) await turn();
  expect(calls).toBe(0);
});

test('records of another thread wake the reader, and none is lost', async () => {
  const ring = new UserspaceMap(memory, mapSpec('ringBuffer', { name: 'ring', maxEntries: 4096 }), 1, 1, true);
  open.push({ [Symbol.dispose]: () => ring.close() });
  const seen: number[] = [];
  const from = reader(ring, () => {
    from.read(1e9, (view, offset) => void seen.push(view.getUint32(offset, true)));
    from.arm();
  });
  from.arm();
  const worker = new Worker(WRITER, {
    eval: true,
    workerData: { memory: memory.memory, bytes: Uint8Array.from(Buffer.from(RUNTIME_BASE64, 'base64')), ring: ring.address, data },
  });
  await expect.poll(() => seen.length, { timeout: 5000 }).toBe(20_000);
  expect(seen).toEqual(range(0, 20_000));
  await worker.terminate();
});

const WRITER = `
  const { workerData: { memory, bytes, ring, data } } = require('node:worker_threads');
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  const view = new DataView(memory.buffer);
  for (let number = 0; number < 20000; number++) {
    view.setUint32(data, number, true);
    while (exports.ring_output(ring, data, 16n, 0n) !== 0n) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  }
`;

test('processes: one that waits for records goes on, others end', async () => {
  const from = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  const run = (then: string): Promise<string> => {
    const script = `import { UserspaceMap } from ${from('./map.ts')};
      import { EngineMemory } from ${from('./memory.ts')};
      import { openRingBuffer } from ${from('./ring.ts')};
      const memory = new EngineMemory();
      const map = new UserspaceMap(memory, { name: 'r', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 }, 1, 1);
      const reader = openRingBuffer(memory, map, () => undefined); ${then}
      console.log('ready');`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    return new Promise((resolve) => {
      child.once('exit', (status, signal) => resolve(signal ?? `ended with ${status}`));
      // Once it is ready it has this long to end by itself.
      child.stdout.once('data', () => setTimeout(() => child.kill('SIGTERM'), 500));
    });
  };
  const runs = ['reader.arm();', 'reader.arm(); reader.disarm();', '', 'reader.arm(); reader.close();'].map(run);
  expect(await Promise.all(runs)).toEqual(['SIGTERM', 'ended with 0', 'ended with 0', 'ended with 0']);
});
