/** Perf event arrays: what programs put in, what readers get, and what each is told, on an engine. */
import { setImmediate as turn } from 'node:timers/promises';
import {
  ArgumentError,
  assemble,
  type Engine,
  type EngineInstance,
  type LoadedMap,
  type LoadedProgram,
  type MapSpec,
  type ProgramType,
  type RingReader,
} from '@tailrace/bpf';
import { pipeline } from '@tailrace/pipeline';
import { objectStage, type PerfEvents, perfEvents, stage, struct, u32, u64 } from '@tailrace/stage';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { assembledObject } from './assembled-object.ts';
import { eventually } from './deadline.ts';

const PLAN = 4096;
const DATA = 2048;
const CURRENT_CPU = 0xffff_ffffn;
const [ENOENT, E2BIG, EFAULT, EINVAL, ENOSPC, EOPNOTSUPP] = [-2, -7, -14, -22, -28, -95];

const eventsSpec: MapSpec = { name: 'events', type: 'perfEventArray', keySize: 4, valueSize: 4, maxEntries: 0, flags: 0 };
/** One call: { flags, size: u64, cpu: u32, result: i32 }. */
const plan: MapSpec = { name: 'plan', type: 'array', keySize: 4, valueSize: 24, maxEntries: PLAN, flags: 0 };
/** Which call is next, u64, and behind it bytes; all of it is what events are made of. */
const data: MapSpec = { name: 'data', type: 'array', keySize: 4, valueSize: DATA, maxEntries: 1, flags: 0 };

/** Makes the next call of the plan, and writes there which CPU made it and what it answered. */
const CALLER = `
  r6 = r1
  *(u32 *)(r10 -4) = 0
  r2 = r10
  r2 += -4
  r1 = map[data]
  call bpf_map_lookup_elem#1
  if r0 == 0 goto out
  r7 = r0
  r1 = *(u64 *)(r7 +0)
  *(u32 *)(r10 -4) = r1
  r1 += 1
  *(u64 *)(r7 +0) = r1
  r2 = r10
  r2 += -4
  r1 = map[plan]
  call bpf_map_lookup_elem#1
  if r0 == 0 goto out
  r8 = r0
  call bpf_get_smp_processor_id#8
  *(u32 *)(r8 +16) = r0
  r3 = *(u64 *)(r8 +0)
  r5 = *(u64 *)(r8 +8)
  if r5 > ${DATA} goto out
  r1 = r6
  r2 = map[events]
  r4 = r7
  call bpf_perf_event_output#25
  *(u32 *)(r8 +20) = r0
out:
  r0 = 2
  exit`;

interface Call {
  readonly flags?: bigint;
  readonly size?: number;
}
interface Answer {
  readonly cpu: number;
  readonly result: number;
}

/** A program with its maps. */
interface Caller {
  readonly events: LoadedMap;
  /** Makes calls in a row, as one run of the program after the other, over the same packet. */
  call(calls: readonly Call[], packet?: Uint8Array): Promise<readonly Answer[]>;
}

const packet = Uint8Array.from({ length: 200 }, (_, at) => 255 - at);
const index = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

/** The cases, on an engine. */
export function perfEventsSuite(engine: Engine): void {
  let instance: EngineInstance;
  beforeEach(async () => {
    instance = await engine.open();
  });
  afterEach(() => instance.close());

  async function caller(type: ProgramType = 'xdp', rest: Partial<MapSpec> = {}): Promise<Caller> {
    const maps = new Map([{ ...eventsSpec, ...rest }, plan, data].map((spec) => [spec.name, instance.createMap(spec)]));
    const { instructions, mapReferences } = assemble(CALLER);
    const program: LoadedProgram = await instance.loadProgram(
      { name: 'caller', type, frags: type === 'xdp', license: 'GPL', instructions, mapReferences, functions: [], lines: [] },
      maps,
    );
    const [planned, bytes] = [maps.get('plan') as LoadedMap, maps.get('data') as LoadedMap];
    bytes.update(
      index(0),
      Uint8Array.from({ length: DATA }, (_, at) => (at < 8 ? 0 : at & 0xff)),
    );
    let at = 0;
    return {
      events: maps.get('events') as LoadedMap,
      async call(calls, given = packet) {
        for (const [i, { flags = CURRENT_CPU, size = 8 }] of calls.entries())
          planned.update(index(at + i), new Uint8Array(BigUint64Array.of(flags, BigInt(size), 0xdeadn << 32n).buffer));
        await program.testRun({ packet: given, repeat: calls.length });
        const answers = calls.map((_, i) => {
          const entry = new DataView((planned.lookup(index(at + i)) ?? packet).buffer);
          return { cpu: entry.getUint32(16, true), result: entry.getInt32(20, true) };
        });
        at += calls.length;
        return answers;
      },
    };
  }

  /** Copies of the records that wait. */
  const records = (reader: RingReader, limit = 1e9): Uint8Array[] => {
    const found: Uint8Array[] = [];
    reader.read(limit, (view, offset, length) => found.push(new Uint8Array(view.buffer, view.byteOffset + offset, length).slice()));
    return found;
  };
  /** The number of the call that a record is from: programs count before they write. */
  const numberOf = (record: Uint8Array): number => Number(new DataView(record.buffer).getBigUint64(0, true)) - 1;
  const results = (answers: readonly Answer[]): readonly number[] => answers.map(({ result }) => result);
  const nothing = (): void => undefined;

  test('a slot for each CPU, unless the map says otherwise', async () => {
    expect(instance.createMap(eventsSpec).spec.maxEntries).toBe(instance.cpus);
    expect(instance.createMap({ ...eventsSpec, maxEntries: 700 }).spec.maxEntries).toBe(700);
  });

  describe.each(['xdp', 'schedCls', 'socketFilter'] as const)('%s', (type) => {
    test('what a program is told', async () => {
      const { events, call } = await caller(type);
      const calls: readonly Call[] = [
        {},
        { flags: CURRENT_CPU | (1n << 52n) },
        { flags: CURRENT_CPU | (1n << 63n) },
        { flags: CURRENT_CPU | (2000n << 32n) },
        { flags: 0xffff_fffen },
        { flags: 1n << 20n },
        { size: 0 },
      ];
      const refused = [EINVAL, EINVAL, EFAULT, E2BIG, E2BIG];
      expect(results(await call(calls))).toEqual([ENOENT, ...refused, ENOENT]);
      const reader = instance.openRing(events, nothing);
      expect(results(await call(calls))).toEqual([0, ...refused, 0]);
      expect([records(reader).map(({ length }) => length), reader.lost]).toEqual([[12, 4], 0n]);
      reader.close();
      expect(results(await call(calls))).toEqual([ENOENT, ...refused, ENOENT]);
    });

    test('records of every size, with bytes of the packet behind them', async () => {
      const { events, call } = await caller(type);
      using reader = instance.openRing(events, nothing);
      const wanted = Array.from({ length: 60 }, (_, size) => ({
        size: size + 8,
        appended: type === 'socketFilter' ? 0 : (size * 7) % 120,
      }));
      const answers = await call(wanted.map(({ size, appended }) => ({ size, flags: CURRENT_CPU | (BigInt(appended) << 32n) })));
      expect(new Set(results(answers))).toEqual(new Set([0]));
      const found = records(reader);
      expect(found.map(({ length }) => length)).toEqual(wanted.map(({ size, appended }) => Math.ceil((size + appended + 4) / 8) * 8 - 4));
      for (const [i, { size, appended }] of wanted.entries()) {
        const record = found[i] as Uint8Array;
        expect(numberOf(record)).toBe(i);
        expect(record.subarray(8, size)).toEqual(Uint8Array.from({ length: size - 8 }, (_, at) => at + 8));
        expect(record.subarray(size, size + appended)).toEqual(packet.slice(0, appended));
      }
    });
  });

  test('an index is that of the CPU which runs, or refused', async () => {
    const { events, call } = await caller();
    using reader = instance.openRing(events, nothing);
    const answers = await call(Array.from({ length: instance.cpus }, (_, cpu) => ({ flags: BigInt(cpu) })));
    expect(results(answers)).toEqual(answers.map(({ cpu }, asked) => (cpu === asked ? 0 : EOPNOTSUPP)));
    expect(records(reader)).toHaveLength(answers.filter(({ result }) => result === 0).length);
    const narrow = await caller('xdp', { maxEntries: 1 });
    using other = instance.openRing(narrow.events, nothing);
    const [answer] = await narrow.call([{}]);
    expect(answer?.result).toBe(answer?.cpu === 0 ? 0 : E2BIG);
    expect(other.lost).toBe(0n);
  });

  test('which records find a place, which are lost, and what is read, against a model', async () => {
    const bytes = 4096;
    const round = fc.record({ sizes: fc.array(fc.integer({ min: 8, max: 1500 }), { minLength: 1, maxLength: 12 }), read: fc.nat(9) });
    await fc.assert(
      fc.asyncProperty(fc.array(round, { minLength: 6, maxLength: 20 }), async (rounds) => {
        const { events, call } = await caller();
        using reader = instance.openRing(events, nothing, bytes);
        const used = new Map<number, number>();
        const untold = new Map<number, number>();
        const waiting = new Map<number, { number: number; bytes: number }[]>();
        let [number, lost] = [0, 0n];
        for (const { sizes, read } of rounds) {
          const answers = await call(sizes.map((size) => ({ size })));
          for (const [i, { cpu, result }] of answers.entries()) {
            // a record of losses comes first: a header, an id, a number
            const record = Math.ceil((12 + (sizes[i] as number)) / 8) * 8 + (untold.get(cpu) ? 24 : 0);
            const fits = (used.get(cpu) ?? 0) + record < bytes;
            expect(result).toBe(fits ? 0 : ENOSPC);
            untold.set(cpu, fits ? 0 : (untold.get(cpu) ?? 0) + 1);
            if (fits) {
              used.set(cpu, (used.get(cpu) ?? 0) + record);
              waiting.set(cpu, [...(waiting.get(cpu) ?? []), { number, bytes: record }]);
            } else lost += 1n;
            number += 1;
          }
          expect(reader.lost).toBe(lost);
          expect(reader.pending).toBe([...used.values()].reduce((sum, more) => sum + more, 0));
          for (const record of records(reader, read)) {
            const [cpu, list] = [...waiting].find(([, list]) => list[0]?.number === numberOf(record)) ?? [];
            if (cpu === undefined || list === undefined) expect.fail(`record ${numberOf(record)} was not the next of any CPU`);
            used.set(cpu, (used.get(cpu) ?? 0) - (list.shift()?.bytes ?? 0));
          }
        }
        records(reader);
        // what says how many were lost is gone past with what follows it
        expect(reader.pending).toBe(0);
        reader.close();
        expect(reader.lost).toBe(lost);
        events.close();
      }),
      { numRuns: 25 },
    );
  });

  test('a reader is called once for each time that it asked, whatever came before', async () => {
    const { events, call } = await caller();
    let calls = 0;
    using reader = instance.openRing(events, () => {
      calls += 1;
    });
    await call([{}]);
    await turn();
    expect(calls).toBe(0);
    for (let round = 1; round <= 20; round++) {
      reader.arm();
      // news of records that were read meanwhile is no news, and those that come after it are
      if (round % 2 === 0) records(reader);
      if (round % 3 === 0) for (let i = 0; i < round % 4; i++) await turn();
      await call([{}, {}]);
      await eventually(() => calls === round);
      await call([{}]);
      for (let i = 0; i < 4; i++) await turn();
      expect(calls).toBe(round);
      if (round % 5 === 0) records(reader);
    }
    records(reader);
    reader.arm();
    reader.disarm();
    await call([{}]);
    for (let i = 0; i < 5; i++) await turn();
    expect(calls).toBe(20);
  });

  test('one reads at a time; what it leaves is gone, and the next one starts afresh', async () => {
    const { events, call } = await caller();
    const first = instance.openRing(events, nothing);
    expect(() => instance.openRing(events, nothing)).toThrow(new ArgumentError('map events has a reader, expected none'));
    await call([{}, {}]);
    first.close();
    first.close();
    await call([{}]);
    using second = instance.openRing(events, nothing);
    await call([{}]);
    expect(records(second).map(numberOf)).toEqual([3]);
    expect(() => first.read(1, nothing)).toThrow(new ArgumentError('the reader of perf event array events is closed'));
    for (const bytes of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])
      expect(() => instance.openRing(instance.createMap(eventsSpec), nothing, bytes)).toThrow('for each CPU, expected 1 to 1073741824');
  });

  test('a map may be closed before its reader, an engine before both', async () => {
    const { events, call } = await caller();
    const reader = instance.openRing(events, nothing);
    await call([{}]);
    events.close();
    expect(records(reader).map(numberOf)).toEqual([0]);
    reader.arm();
    await instance.close();
    expect(() => reader.pending).toThrow(ArgumentError);
  });

  test('as bytes there is nothing in it', () => {
    const map = instance.createMap(eventsSpec);
    expect(() => map.update(index(0), index(1))).toThrow('map events holds perf events, not bytes');
    expect(() => map.delete(index(0))).toThrow('map events holds perf events, not bytes');
    expect(() => map.lookup(index(0))).toThrow('ENOTSUPP');
    expect(() => map.readAll()).toThrow('ENOTSUPP');
  });

  describe('of an object, in a pipeline', () => {
    const Seen = struct({ length: u32, kind: u32 });
    /** Tells the packet's length, a number and `appended` bytes of the packet; then returns XDP_PASS. */
    const object = (appended: number) =>
      assembledObject(
        [
          {
            name: 'tell',
            text: `
              r2 = *(u32 *)(r1 +0)
              r3 = *(u32 *)(r1 +4)
              r3 -= r2
              *(u32 *)(r10 -8) = r3
              *(u32 *)(r10 -4) = 7
              r2 = map[events]
              r3 = ${appended}
              r3 <<= 32
              r4 = 0xffffffff ll
              r3 |= r4
              r4 = r10
              r4 += -8
              r5 = 8
              call bpf_perf_event_output#25
              r0 = 2
              exit`,
          },
        ],
        [eventsSpec],
      );
    const last = stage({ name: 'last', hook: 'xdp', program: (ctx) => (ctx.length > 100 ? ctx.drop() : ctx.pass()) });
    const running = (events: PerfEvents<unknown>, appended = 0) =>
      pipeline('edge', {
        xdp: [objectStage({ name: 'tell', hook: 'xdp', object: object(appended), uses: { events }, exits: {} }), last],
      }).run(engine);

    test('events come typed to who subscribes, while somebody does', async () => {
      const declared = perfEvents({ name: 'seen', value: Seen });
      await using edge = await running(declared);
      const handle = edge.map(declared);
      expect((await edge.run(packet)).verdict).toBe('drop');
      expect([handle.received, handle.lost, handle.pending]).toEqual([0n, 0n, 0]);
      const [seen, done]: [unknown[], string[]] = [[], []];
      const read = handle.events$.subscribe((event) => seen.push(event));
      await edge.run(packet.subarray(0, 60));
      await edge.run(packet);
      await eventually(() => seen.length === 2);
      expect(seen).toEqual(
        expect.arrayContaining([
          { length: 60, kind: 7 },
          { length: 200, kind: 7 },
        ]),
      );
      read.unsubscribe();
      await edge.run(packet);
      handle.events$.subscribe({ complete: () => done.push('events$') });
      await edge.run(packet);
      await edge.stop();
      expect([handle.received, done]).toEqual([3n, ['events$']]);
      expect(() => handle.pending).toThrow(new ArgumentError("perf event array 'seen' is closed"));
    });

    test('with bytes of the packet, one at a time', async () => {
      const declared = perfEvents({ name: 'seen', value: Seen, packet: true });
      await using edge = await running(declared, 50);
      const reading = edge.map(declared)[Symbol.asyncIterator]();
      const first = reading.next();
      await edge.run(packet);
      // 8 and 50 bytes, rounded up to 4 more than a multiple of 8
      expect(await first).toMatchObject({ value: { value: { length: 200, kind: 7 } }, done: false });
      expect((await first).value?.packet).toHaveLength(52);
      expect((await first).value?.packet.subarray(0, 50)).toEqual(packet.slice(0, 50));
      await reading.return?.();
    });

    test('a full ring loses events, and they are counted, also once nobody reads', async () => {
      const declared = perfEvents({ name: 'seen', value: u64, bytes: 1 });
      await using edge = await running(declared, 200);
      const handle = edge.map(declared);
      const reading = handle[Symbol.asyncIterator]();
      const first = reading.next();
      for (let i = 0; i < 2_000; i++) await edge.run(packet);
      await first;
      const lost = handle.lost;
      expect(lost).toBeGreaterThan(0n);
      await reading.return?.();
      expect(handle.lost).toBe(lost);
    });

    test('a record that is too short is an error of the subscriber', async () => {
      const declared = perfEvents({ name: 'seen', value: struct({ a: u64, b: u64, c: u64 }) });
      await using edge = await running(declared);
      const failed = new Promise((resolve) => edge.map(declared).events$.subscribe({ error: resolve }));
      await edge.run(packet);
      expect(await failed).toMatchObject({ code: 'argument', message: "perf event array 'seen': a record of 12 bytes, expected 24" });
    });
  });
}
