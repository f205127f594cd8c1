import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { ArgumentError, Helper, type Instruction, insn, MapFlag, type MapReference, type RingReader, reg, slotsOf } from '@tailrace/bpf';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type KernelInstance, kernel } from './engine.ts';
import { mapSpec, openFds, programSpec } from './fixture.ts';
import type { KernelMap } from './map.ts';
import { pageSize } from './mapping.ts';
import type { KernelProgram } from './program.ts';
import { injectFailure } from './syscall.ts';

const packet = new Uint8Array(64);
const bytes = pageSize();

let instance: KernelInstance;
beforeAll(async () => {
  instance = await kernel({ interfaces: [] }).open();
});
afterAll(() => instance.close());

const open: Disposable[] = [];
afterEach(() => {
  for (const thing of open.splice(0).reverse()) thing[Symbol.dispose]();
});

interface Writer {
  readonly ring: KernelMap;
  /** Writes numbered records. */
  write(times: number): Promise<void>;
  /** Records that found no place. */
  lost(): number;
}

/**
 * A program that numbers its runs and puts the number at both ends of a record of so many bytes; each `discard`th record
 * is thrown away.
 */
async function writer(recordBytes: number, ringBytes = bytes, discard = 0): Promise<Writer> {
  const ring = instance.createMap(mapSpec('ringBuffer', { name: 'ring', keySize: 0, valueSize: 0, maxEntries: ringBytes }));
  const counts = instance.createMap(mapSpec('array', { name: 'counts', maxEntries: 1, flags: MapFlag.mmapable }));
  const mapReferences: MapReference[] = [];
  const instructions: Instruction[] = [];
  const slots = (): number => instructions.reduce((sum, instruction) => sum + slotsOf(instruction), 0);
  mapReferences.push({ pc: slots(), map: 'counts', valueOffset: 0 });
  instructions.push(insn.wideMapValue(7, 0), insn.mov(6, 1), insn.atomic('fetchAdd', 8, 7, 0, 6));
  mapReferences.push({ pc: slots(), map: 'ring' });
  instructions.push(
    insn.wideMap(1),
    insn.mov(2, recordBytes),
    insn.mov(3, 0),
    insn.call(Helper.ringbuf_reserve),
    insn.jump('ne', 0, 0, 4),
    insn.mov(1, 1),
    insn.atomic('add', 8, 7, 8, 1),
    insn.mov(0, 1),
    insn.exit(),
    insn.store(8, 0, 0, 6),
    insn.store(8, 0, recordBytes - 8, 6),
    insn.mov(1, reg(0)),
    insn.mov(2, 0),
    ...(discard === 0
      ? [insn.call(Helper.ringbuf_submit)]
      : [
          insn.alu64('mod', 6, discard),
          insn.jump('eq', 6, discard - 1, 2),
          insn.call(Helper.ringbuf_submit),
          insn.ja(1),
          insn.call(Helper.ringbuf_discard),
        ]),
    insn.mov(0, 2),
    insn.exit(),
  );
  const spec = programSpec('ring.writer', instructions, { mapReferences });
  const maps = new Map([
    ['ring', ring],
    ['counts', counts],
  ]);
  const program: KernelProgram = await instance.loadProgram(spec, maps);
  open.push({
    [Symbol.dispose]() {
      program.close();
      ring.close();
      counts.close();
    },
  });
  return {
    ring,
    write: async (repeat) => void (await program.testRun({ packet, repeat })),
    lost: () => Number(new DataView((counts.lookup(new Uint8Array(4)) ?? packet).buffer).getBigUint64(8, true)),
  };
}

function reader(ring: KernelMap, onReadable: () => void = () => undefined): RingReader {
  const made = instance.openRing(ring, onReadable);
  open.push(made);
  return made;
}

/** The numbers of the next records; each must hold its number at both ends. */
function numbers(from: RingReader, limit = 1e9): number[] {
  const found: number[] = [];
  from.read(limit, (view, offset, length) => {
    const number = Number(view.getBigUint64(offset, true));
    expect(Number(view.getBigUint64(offset + length - 8, true))).toBe(number);
    found.push(number);
  });
  return found;
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** Ring buffers that this process has mapped. */
function mappings(): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('bpf-map')).length;
}

test('records come in order, and what was read makes room', async () => {
  const { ring, write, lost } = await writer(24);
  const from = reader(ring);
  expect(from.pending).toBe(0);
  expect(numbers(from)).toEqual([]);
  await write(10);
  expect(from.pending).toBe(10 * 32);
  expect(numbers(from, 4)).toEqual([0, 1, 2, 3]);
  expect(from.pending).toBe(6 * 32);
  expect(numbers(from)).toEqual([4, 5, 6, 7, 8, 9]);
  await write(bytes);
  expect(from.pending).toBe(bytes - 32);
  expect(numbers(from)).toEqual(range(10, 10 + bytes / 32 - 1));
  expect(lost()).toBe(bytes - (bytes / 32 - 1));
});

test('records that reach over the end of the ring are whole', async () => {
  const { ring, write } = await writer(40);
  const from = reader(ring);
  for (let round = 0; round < 60; round++) {
    await write(7);
    expect(numbers(from)).toEqual(range(7 * round, 7 * round + 7));
  }
});

test('a record may fill all but 8 bytes of the ring, header and all', async () => {
  const { ring, write, lost } = await writer(bytes - 16);
  const from = reader(ring);
  for (let round = 0; round < 5; round++) {
    await write(1);
    expect(numbers(from)).toEqual([round]);
  }
  expect(lost()).toBe(0);
});

test('records that the program threw away are passed over and make room', async () => {
  const { ring, write } = await writer(24, bytes, 3);
  const from = reader(ring);
  await write(9);
  expect(numbers(from, 3)).toEqual([0, 1, 3]);
  expect(numbers(from)).toEqual([4, 6, 7]);
  expect(from.pending).toBe(0);
  const { ring: none, write: writeNone } = await writer(24, bytes, 1);
  const nothing = reader(none);
  for (let round = 0; round < 3; round++) {
    await writeNone(bytes / 32 - 1);
    expect(numbers(nothing)).toEqual([]);
  }
  expect(nothing.pending).toBe(0);
});

test('the next reader goes on where the last one stopped', async () => {
  const { ring, write } = await writer(24);
  await write(5);
  const first = reader(ring);
  expect(numbers(first, 2)).toEqual([0, 1]);
  expect(() => instance.openRing(ring, () => undefined)).toThrow(new ArgumentError('map ring has a reader, expected none'));
  first.close();
  first.close();
  expect(() => first.pending).toThrow(new ArgumentError('the reader of ring buffer ring is closed'));
  expect(() => first.read(1, () => undefined)).toThrow('closed');
  expect(() => first.arm()).toThrow('closed');
  const second = reader(ring);
  await write(2);
  expect(numbers(second)).toEqual([2, 3, 4, 5, 6]);
});

test('an error of the listener goes on, and its record is read', async () => {
  const { ring, write } = await writer(24);
  const from = reader(ring);
  await write(3);
  expect(() =>
    from.read(10, () => {
      throw new RangeError('mine');
    }),
  ).toThrow('mine');
  expect(numbers(from)).toEqual([1, 2]);
});

test('a listener may close the reader, and may not read', async () => {
  const { ring, write } = await writer(24);
  const from = reader(ring);
  await write(3);
  expect(() => from.read(1, () => from.read(1, () => undefined))).toThrow(
    new ArgumentError('ring buffer ring is read by its own listener'),
  );
  let kept: DataView | undefined;
  const count = from.read(10, (view) => {
    kept = view;
    from.close();
  });
  expect(count).toBe(1);
  // a view that somebody kept does not end the process
  expect(() => kept?.getUint8(0)).toThrow(TypeError);
  expect(numbers(reader(ring))).toEqual([2]);
});

test('armed, it calls once, as soon as there is something', async () => {
  const { ring, write } = await writer(24);
  let calls = 0;
  const from = reader(ring, () => {
    calls += 1;
  });
  await write(1);
  await turn();
  await turn();
  expect(calls).toBe(0);
  from.arm();
  from.arm();
  expect(calls).toBe(0);
  await expect.poll(() => calls).toBe(1);
  await write(1);
  await turn();
  expect(calls).toBe(1);
  numbers(from);
  from.arm();
  await turn();
  await turn();
  expect(calls).toBe(1);
  await write(1);
  await expect.poll(() => calls).toBe(2);
  from.arm();
  from.disarm();
  from.disarm();
  await turn();
  await turn();
  expect(calls).toBe(2);
});

test('promises made in the call go on at once', async () => {
  const { ring, write } = await writer(24);
  let resolve: (at: bigint) => void = () => undefined;
  const called = new Promise<bigint>((settle) => {
    resolve = settle;
  });
  const from = reader(ring, () => resolve(process.hrtime.bigint()));
  from.arm();
  await write(1);
  const at = await called;
  expect(Number(process.hrtime.bigint() - at)).toBeLessThan(50e6);
});

test('closing while a call is under way takes it back', async () => {
  const { ring, write } = await writer(24);
  let calls = 0;
  const from = reader(ring, () => {
    calls += 1;
  });
  await write(1);
  from.arm();
  from.close();
  const second = reader(ring, () => {
    calls += 1;
    second.close();
  });
  second.arm();
  await expect.poll(() => calls).toBe(1);
  for (let i = 0; i < 3; i++) await turn();
  expect(calls).toBe(1);
});

test('nothing is left open or mapped', async () => {
  const { ring, write } = await writer(24);
  await write(1);
  const [fds, maps] = [openFds(), mappings()];
  for (let round = 0; round < 200; round++) {
    const from = reader(ring);
    if (round % 2 === 0) from.arm();
    if (round % 3 === 0) await turn();
    expect(from.pending).toBe(32);
    from.close();
  }
  await turn();
  expect([openFds(), mappings()]).toEqual([fds, maps]);
  for (const nth of [1, 2, 3]) {
    injectFailure(nth);
    expect(() => instance.openRing(ring, () => undefined)).toThrow('ring buffer ring failed: ENOMEM');
    injectFailure(0);
    expect([openFds(), mappings()]).toEqual([fds, maps]);
  }
  const other = await kernel({ interfaces: [] }).open();
  const inOther = other.createMap(ring.spec);
  expect(() => instance.openRing(other.createMap(mapSpec('hash')), () => undefined)).toThrow(
    new ArgumentError('map sample/hash is neither a ring buffer nor a perf event array of the kernel engine'),
  );
  const from = other.openRing(inOther, () => undefined);
  from.arm();
  await other.close();
  expect(from.closed).toBe(true);
  await turn();
  expect([openFds(), mappings()]).toEqual([fds, maps]);
});

test.each([
  ['one that waits for records goes on', 'reader.arm();', null],
  ['one that does not ends', 'reader.arm(); reader.disarm();', 0],
  ['nor does one hold it that was never asked', '', 0],
])('processes: %s', (_name, then, status) => {
  const engine = new URL('./engine.ts', import.meta.url).href;
  const script = `import { kernel } from ${JSON.stringify(engine)};
    const instance = await kernel({ interfaces: [] }).open();
    const ring = instance.createMap({ name: 'r', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: ${bytes}, flags: 0 });
    const reader = instance.openRing(ring, () => undefined); ${then}`;
  const ran = spawnSync(process.execPath, ['--input-type=module', '--eval', script], { timeout: 2_000, encoding: 'utf8' });
  expect({ status: ran.status, stderr: ran.stderr }).toEqual({ status, stderr: '' });
});

test('bursts from several CPUs lose nothing that is not counted', async () => {
  const { ring, write, lost } = await writer(24, 64 * 1024);
  const seen = new Set<number>();
  const collect = (): void => {
    from.read(1024, (view, offset) => void seen.add(Number(view.getBigUint64(offset, true))));
    from.arm();
  };
  const from = reader(ring, collect);
  from.arm();
  const runs = 4;
  const each = 50_000;
  await Promise.all(Array.from({ length: runs }, () => write(each)));
  await expect.poll(() => seen.size + lost()).toBe(runs * each);
});
