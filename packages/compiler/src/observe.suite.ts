/** What stages tell of single packets: records of their ways out, in order, with as much of the packet as was asked for. */
import type { Engine, EngineInstance, LoadedMap } from '@tailrace/bpf';
import {
  type AnyStage,
  array,
  decodeFrom,
  objectStage,
  perCpuArray,
  programArray,
  ringBuffer,
  stage,
  struct,
  toMapSpec,
  u32,
  u64,
} from '@tailrace/stage';
import { assembledObject } from '@tailrace/testing';
import { describe, expect, test } from 'vitest';
import { compileFused, compileRoot, compileStage, outcomesOf } from './compile.ts';
import { counterNames, type Edge, type ObservePlacement, type Placement, type ProgramHook, type TraceRoot } from './placement.ts';
import { GOES_ON, recordSchema, type WayOutRecord } from './record.ts';

const State = struct({
  length: u64,
  misses: u64,
  traceLost: u64,
  dropsLost: u64,
  countdown: u32,
  sequence: u32,
  mark: u32,
  dropsCountdown: u32,
  counters: array(u64, 40),
});
const at = (name: string): number => (State.layout.kind === 'struct' ? (State.layout.fields[name]?.offset ?? 0) : 0);

interface Edges {
  readonly next: Edge;
  readonly exits?: Record<string, Edge>;
}

/** `one` behind the root, `two` in slot 1, and the rings. Packets are told apart by their length. */
class Chain {
  readonly hook: ProgramHook;
  readonly #engine: EngineInstance;
  readonly #maps: ReadonlyMap<string, LoadedMap>;
  readonly #headerBytes: number;

  constructor(engine: EngineInstance, hook: ProgramHook, headerBytes: number) {
    this.hook = hook;
    this.#engine = engine;
    this.#headerBytes = headerBytes;
    const ring = (name: string) => toMapSpec(ringBuffer({ name, value: recordSchema(headerBytes), bytes: 4096 }), name);
    this.#maps = new Map([
      ['chain', engine.createMap(toMapSpec(programArray({ name: 'chain', maxEntries: 4 }), 'chain'))],
      ['state', engine.createMap(toMapSpec(perCpuArray({ name: 'state', value: State, maxEntries: 1 }), 'state'))],
      ['trace', engine.createMap(ring('trace'))],
      ['drops', engine.createMap(ring('drops'))],
    ]);
  }

  async root(every: number) {
    const trace: TraceRoot = { every, mark: this.#mark, countdown: at('countdown'), sequence: at('sequence') };
    const state = { map: 'state', misses: at('misses'), trace };
    const root = { name: 'root', array: 'chain' };
    return this.#load(
      this.hook === 'tc'
        ? compileRoot({ ...root, hook: 'tc', state })
        : compileRoot({ ...root, state: { ...state, length: at('length') } }),
    );
  }

  async place(slot: number, subject: AnyStage, place: number, edges: Edges, every = 1) {
    const { program } = compileStage(subject, { placement: this.#placement(subject, place, edges, every) });
    await this.#maps.get('chain')?.setProgram(slot, await this.#load(program));
  }

  /** `one` and `two` as one program in slot 0. */
  async fuse(first: readonly [AnyStage, number, Edges], second: readonly [AnyStage, number, Edges]) {
    const part = ([subject, place, edges]: typeof first) => ({
      name: subject.name,
      stage: subject,
      placement: this.#placement(subject, place, edges, 1),
    });
    const { program } = compileFused([part(first), part(second)], { name: 'fused' });
    await this.#maps.get('chain')?.setProgram(0, await this.#load(program));
  }

  /** Whatever was there before: what is counted down and counted up is all ones. */
  spoil(): void {
    const state = this.#maps.get('state');
    const bytes = state?.lookup(new Uint8Array(4)) ?? new Uint8Array(0);
    const stride = bytes.length / this.#engine.cpus;
    for (let cpu = 0; cpu < this.#engine.cpus; cpu++)
      for (const name of ['countdown', 'sequence', 'dropsCountdown'] as const)
        bytes.fill(0xff, cpu * stride + at(name), cpu * stride + at(name) + 4);
    state?.update(new Uint8Array(4), bytes);
  }

  records(ring: 'trace' | 'drops'): readonly WayOutRecord[] {
    const records: WayOutRecord[] = [];
    using reader = this.#engine.openRing(this.#maps.get(ring) as LoadedMap, () => undefined);
    reader.read(1000, (view, offset) => records.push(decodeFrom(recordSchema(this.#headerBytes).layout, view, offset) as WayOutRecord));
    return records;
  }

  lost(ring: 'trace' | 'drops'): number {
    const bytes = this.#maps.get('state')?.lookup(new Uint8Array(4)) ?? new Uint8Array(0);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const stride = bytes.length / this.#engine.cpus;
    let sum = 0;
    for (let cpu = 0; cpu < this.#engine.cpus; cpu++) sum += Number(view.getBigUint64(cpu * stride + at(`${ring}Lost`), true));
    return sum;
  }

  #placement(subject: AnyStage, place: number, edges: Edges, every: number): Placement {
    const ring = (map: string) => ({ map, lost: at(`${map}Lost`), headerBytes: this.#headerBytes });
    const observe: ObservePlacement = {
      place,
      trace: { ...ring('trace'), mark: this.#mark },
      drops: { ...ring('drops'), every, countdown: at('dropsCountdown') },
    };
    const length = this.hook === 'xdp' ? { length: at('length') } : {};
    return { array: 'chain', exits: {}, ...edges, reasons: outcomesOf(subject).reasons, state: { map: 'state', ...length }, observe };
  }

  get #mark(): number {
    return this.hook === 'tc' ? 16 : at('mark');
  }

  #load(program: ReturnType<typeof compileRoot>) {
    return this.#engine.loadProgram(program, this.#maps);
  }
}

const bodies = {
  one: (hook: 'xdp' | 'tc') =>
    stage({
      name: 'one',
      hook,
      program(ctx) {
        if (ctx.length === 60) return ctx.drop('sixty');
        if (ctx.length === 70) return ctx.exit('away');
        return ctx.length === 80 ? ctx.pass() : ctx.next();
      },
    }),
  two: (hook: 'xdp' | 'tc') =>
    stage({ name: 'two', hook, onMiss: 'drop', program: (ctx) => (ctx.length === 90 ? ctx.redirect(1) : ctx.next()) }),
  /** Drops what is shorter than 100 bytes, as its direct access sees it. */
  object: (hook: 'xdp' | 'tc') => {
    const [data, end, size] = hook === 'xdp' ? [0, 4, 'u32'] : [76, 80, 'u32'];
    const verdicts = hook === 'xdp' ? [2, 1] : [-1, 2];
    const text = `r2 = *(${size} *)(r1 + ${data})\nr3 = *(${size} *)(r1 + ${end})\nr2 += 100\nr0 = ${verdicts[1]}\nif r2 > r3 goto l\nr0 = ${verdicts[0]}\nl: exit`;
    const type = hook === 'xdp' ? 'xdp' : 'schedCls';
    return objectStage({ name: 'object', hook, object: assembledObject([{ name: 'main', type, text }]), exits: {} }) as AnyStage;
  },
} as const;

function packetOf(length: number): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => i);
  bytes.set([0x86, 0xdd, 0x60], 12);
  return bytes;
}

/** The cases, on an engine. */
export function observeSuite(blueprint: Engine): void {
  describe.each(['xdp', 'tc'] as const)('%s', (hook) => {
    const pass = hook === 'xdp' ? 2 : 0xffff_ffff;
    const drop = hook === 'xdp' ? 1 : 2;
    const names = counterNames(hook, ['away'], ['drop:sixty']);
    /** Packets by their order, whichever CPUs they ran on; their steps, stages and ways out. */
    const told = (records: readonly WayOutRecord[]) => {
      const packets: string[] = [];
      return records.map(({ packet, cpu, place, outcome, verdict }) => {
        const id = `${cpu} ${packet >>> 8}`;
        if (!packets.includes(id)) packets.push(id);
        return [packets.indexOf(id), packet & 0xff, place, names[outcome], verdict];
      });
    };

    async function chainOf(engine: EngineInstance, headerBytes: number, { every = 1, fused = false } = {}) {
      const chain = new Chain(engine, hook, headerBytes);
      const root = await chain.root(every);
      const [one, two] = [bodies.one(hook), bodies.two(hook)];
      const exits = { away: { verdict: 'drop' } } as const;
      if (fused) await chain.fuse([one, 7, { next: { part: 'two' }, exits }], [two, 70_000, { next: { slot: 3 } }]);
      else {
        await chain.place(0, one, 7, { next: { slot: 1 }, exits });
        await chain.place(1, two, 70_000, { next: { slot: 3 } });
      }
      const run = async (length: number) => (await root.testRun({ packet: packetOf(length) })).returnValue;
      return { chain, run };
    }

    test.each([false, true])('every way out of a marked packet is told, and each drop; fused: %s', async (fused) => {
      await using engine = await blueprint.open();
      const { chain, run } = await chainOf(engine, 0, { fused });
      const verdicts: number[] = [];
      for (const length of [60, 70, 80, 90, 100]) verdicts.push(await run(length));
      expect(verdicts).toEqual([drop, drop, pass, hook === 'xdp' ? 4 : 7, drop]);
      const records = chain.records('trace');
      expect(told(records)).toEqual([
        [0, 1, 7, 'drop:sixty', drop],
        [1, 1, 7, 'exit:away', drop],
        [2, 1, 7, 'pass', pass],
        [3, 1, 7, 'next', GOES_ON],
        [3, 2, 70_000, 'redirect', hook === 'xdp' ? 4 : 7],
        [4, 1, 7, 'next', GOES_ON],
        [4, 2, 70_000, 'next', GOES_ON],
        [4, 3, 70_000, 'misses', drop],
      ]);
      expect(records.map(({ length }) => length)).toEqual([60, 70, 80, 90, 90, 100, 100, 100]);
      const times = records.map(({ time }) => time);
      expect(times).toEqual([...times].sort((a, b) => Number(a - b)));
      expect(new Set(times.map((time) => time > 0n))).toEqual(new Set([true]));
      const drops = chain.records('drops').map(({ packet, place, outcome, verdict }) => [packet, place, names[outcome], verdict]);
      expect(drops).toEqual([
        [0, 7, 'drop:sixty', drop],
        [0, 7, 'exit:away', drop],
        [0, 70_000, 'misses', drop],
      ]);
      expect([chain.lost('trace'), chain.lost('drops')]).toEqual([0, 0]);
    });

    test.each([false, true])('one packet in so many, of drops too, where something else was before: %s', async (spoiled) => {
      await using engine = await blueprint.open();
      const { chain, run } = await chainOf(engine, 0, { every: 3 });
      if (spoiled) chain.spoil();
      await chain.place(0, bodies.one(hook), 7, { next: { slot: 1 }, exits: { away: { verdict: 'drop' } } }, 2);
      for (let i = 0; i < 7; i++) await run(60);
      // each CPU counts for itself
      const traced = chain.records('trace');
      expect([3, 4]).toContain(traced.length);
      expect(new Set(traced.map(({ packet }) => packet & 0xff))).toEqual(new Set([1]));
      expect([4, 5]).toContain(chain.records('drops').length);
    });

    test.each([
      [1, 60, 1],
      [13, 60, 13],
      [64, 63, 63],
      [64, 64, 64],
      [100, 60, 60],
      [100, 100, 100],
      [128, 127, 127],
      [128, 300, 128],
    ])('%i header bytes, of a packet of %i', async (headerBytes, length, expected) => {
      await using engine = await blueprint.open();
      const { chain, run } = await chainOf(engine, headerBytes);
      await run(length);
      for (const { captured, bytes = [] } of chain.records('trace'))
        expect(Uint8Array.from(bytes.slice(0, captured))).toEqual(packetOf(length).subarray(0, expected));
    });

    test('a ring that is full loses records, and counts them', async () => {
      await using engine = await blueprint.open();
      const { chain, run } = await chainOf(engine, 0);
      const count = 120;
      for (let i = 0; i < count; i++) await run(60);
      for (const ring of ['trace', 'drops'] as const) {
        const received = chain.records(ring).length;
        expect(received).toBeGreaterThan(90);
        expect(received).toBeLessThan(count);
        expect(received + chain.lost(ring)).toBe(count);
      }
    });

    test('stages out of objects tell the same', async () => {
      await using engine = await blueprint.open();
      const chain = new Chain(engine, hook, 64);
      const root = await chain.root(1);
      await chain.place(0, bodies.object(hook), 5, { next: { slot: 1 } });
      await chain.place(1, bodies.two(hook), 6, { next: { verdict: 'pass' } });
      const run = async (length: number) => (await root.testRun({ packet: packetOf(length) })).returnValue;
      expect([await run(60), await run(120), await run(61), await run(62)]).toEqual([drop, pass, drop, drop]);
      const records = chain.records('trace');
      expect(told(records)).toEqual([
        [0, 1, 5, 'drop', drop],
        [1, 1, 5, 'next', GOES_ON],
        [1, 2, 6, 'next', pass],
        [2, 1, 5, 'drop', drop],
        [3, 1, 5, 'drop', drop],
      ]);
      expect(records.map(({ captured }) => captured)).toEqual([60, 64, 64, 61, 62]);
      expect(records[3]?.bytes?.slice(0, 61)).toEqual([...packetOf(61)]);
      expect(chain.records('drops').map(({ length, captured }) => [length, captured])).toEqual(
        [60, 61, 62].map((length) => [length, length]),
      );
      await chain.place(0, bodies.object(hook), 5, { next: { slot: 1 } }, 3);
      for (let i = 0; i < 7; i++) await run(60);
      // each CPU counts for itself
      expect([3, 4]).toContain(chain.records('drops').length);
    });
  });
}
