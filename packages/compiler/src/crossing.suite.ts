/** Chains by hand: what they count at TC, and what XDP leaves in front of a packet. */
import type { Engine, EngineInstance, LoadedMap } from '@tailrace/bpf';
import { type AnyStage, array, perCpuArray, programArray, stage, struct, toMapSpec, u8, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { describe, expect, test } from 'vitest';
import { compileRoot, compileStage } from './compile.ts';
import { type Crossing, counterNames, type Placement } from './placement.ts';

/** Metadata with a hole in it. */
export const color = struct({ hue: u8, shade: u32 });
/** All that crosses. */
export const fields = { color, big: u64 };

/** The state of a chain with two stages, whichever the hook. */
const State = struct({ length: u64, misses: u64, missing: u64, color, big: u64, one: array(u64, 12), two: array(u64, 12) });
/** Where a field of the state is. */
export const offsetOf = (name: string): number => (State.layout.kind === 'struct' ? (State.layout.fields[name]?.offset ?? 0) : 0);
/** big at 0, color at 8: 16 bytes, 4 words. */
export const inCb = { big: { layout: u64.layout, offset: 0 }, color: { layout: color.layout, offset: 8 } };
/** The same in the state of XDP. */
export const inState = {
  big: { layout: u64.layout, offset: offsetOf('big') },
  color: { layout: color.layout, offset: offsetOf('color') },
};
/** What crosses, in 5 words. */
export const crossing: Crossing = {
  tag: 0xc0ffee42,
  words: 5,
  fields: [
    { name: 'big', from: offsetOf('big'), to: 0, size: 8 },
    { name: 'color', from: offsetOf('color'), to: 8, size: 8 },
  ],
};

/** A chain by hand: a root, an array, stages in it. */
export class Chain implements Disposable {
  readonly #engine: EngineInstance;
  readonly array: LoadedMap;
  readonly state: LoadedMap;

  constructor(engine: EngineInstance) {
    this.#engine = engine;
    this.array = engine.createMap(toMapSpec(programArray({ name: 'chain', maxEntries: 4 }), 'chain'));
    this.state = engine.createMap(toMapSpec(perCpuArray({ name: 'state', value: State, maxEntries: 1 }), 'state'));
  }

  async place(
    slot: number,
    subject: AnyStage,
    placement: Omit<Placement, 'array' | 'state'>,
    own: Readonly<Record<string, LoadedMap>> = {},
  ) {
    const state = { map: 'state', ...(subject.hook === 'xdp' ? { length: offsetOf('length') } : {}), counters: offsetOf(subject.name) };
    const { program } = compileStage(subject, { placement: { array: 'chain', state, ...placement } });
    await this.array.setProgram(slot, await this.load(program, own));
  }

  load(program: ReturnType<typeof compileRoot>, own: Readonly<Record<string, LoadedMap>> = {}) {
    return this.#engine.loadProgram(program, new Map(Object.entries({ chain: this.array, state: this.state, ...own })));
  }

  /** A field of the state, summed over all CPUs. */
  word(name: string, index = 0): number {
    const bytes = this.state.lookup(new Uint8Array(4)) ?? new Uint8Array(0);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const stride = bytes.length / this.#engine.cpus;
    return Array.from({ length: this.#engine.cpus }, (_, cpu) =>
      Number(view.getBigUint64(cpu * stride + offsetOf(name) + 8 * index, true)),
    ).reduce((a, b) => a + b);
  }

  /** The counters of a stage that are not zero. */
  counted(name: 'one' | 'two', hook: 'xdp' | 'tc', labels: readonly string[] = []): Readonly<Record<string, number>> {
    const all = counterNames(hook, labels).map((counter, i) => [counter, this.word(name, i)] as const);
    return Object.fromEntries(all.filter(([, value]) => value !== 0));
  }

  [Symbol.dispose](): void {
    this.array.close();
    this.state.close();
  }
}

/** The root at TC, which takes over what crossed. */
export const tcRoot = compileRoot({
  hook: 'tc',
  name: 'root',
  array: 'chain',
  state: { map: 'state', misses: offsetOf('misses'), missing: offsetOf('missing') },
  imports: crossing,
});

/** The cases, on an engine. */
export function crossingSuite(blueprint: Engine): void {
  describe('a chain at TC', () => {
    test('counts segments by outcome, and misses', async () => {
      await using engine = await blueprint.open();
      using chain = new Chain(engine);
      const root = await chain.load(tcRoot);
      const frame = (ttl: number) => packet().ipv4({ ttl }).udp().bytes();
      const run = async (ttl: number, gsoSegments = 0): Promise<number> =>
        (await root.testRun({ packet: frame(ttl), skb: { gsoSegments } })).returnValue | 0;
      expect(await run(1)).toBe(-1);
      expect([chain.word('misses'), chain.word('missing')]).toEqual([1, 1]);

      const one = stage({
        name: 'one',
        hook: 'tc',
        writes: { big: u64 },
        program(ctx) {
          const ip = ctx.ipv4();
          if (!ip) return ctx.drop();
          ctx.meta.big = BigInt(ip.ttl);
          if (ip.ttl === 9) return ctx.exit('nine');
          return ip.ttl > 100 ? ctx.redirect(1) : ctx.next();
        },
      });
      const two = stage({
        name: 'two',
        hook: 'tc',
        reads: { big: u64 },
        onMiss: 'drop',
        program: (ctx) => (ctx.meta.big > 5n ? ctx.drop() : ctx.next()),
      });
      await chain.place(0, one, { next: { slot: 1 }, exits: { nine: { verdict: 'drop' } }, metadata: inCb });
      await chain.place(1, two, { next: { slot: 2 }, exits: {}, metadata: inCb });
      expect(await run(6, 3)).toBe(2);
      expect(await run(9)).toBe(2);
      expect(await run(101, 2)).toBe(7);
      // the second's next() finds slot 2 empty
      expect(await run(2)).toBe(2);
      const length = frame(1).length;
      expect(chain.counted('one', 'tc', ['nine'])).toEqual({ bytes: 4 * length, next: 4, redirect: 2, 'exit:nine': 1 });
      expect(chain.counted('two', 'tc')).toEqual({ bytes: 2 * length, drop: 3, next: 1, misses: 1 });
      expect([chain.word('misses'), chain.word('missing')]).toEqual([1, 5]);
    });
  });

  test('what lies in front of the packet behind XDP', async () => {
    await using engine = await blueprint.open();
    using chain = new Chain(engine);
    const subject = stage({
      name: 'one',
      hook: 'xdp',
      writes: fields,
      program(ctx) {
        ctx.meta.big = 7n;
        ctx.meta.color = { hue: 1, shade: 2 };
        return ctx.length > 100 ? ctx.drop() : ctx.next();
      },
    });
    const state = { map: 'state', length: offsetOf('length'), counters: offsetOf('one') };
    const placement: Placement = { array: 'chain', next: { verdict: 'pass' }, exits: {}, state, metadata: inState, crossing };
    const program = await chain.load(compileStage(subject, { placement }).program);
    const { returnValue, xdp } = await program.testRun({ packet: packet().ipv4().udp().bytes() });
    expect(returnValue).toBe(2);
    expect(Buffer.from(xdp?.metadata ?? []).toString('hex')).toBe('42eeffc0' + '0700000000000000' + '0100000002000000' + '00000000');
    // of the 256 bytes in front of a packet the kernel keeps 40: what is there stays
    const others = new Uint8Array(200).fill(9);
    const crowded = await program.testRun({ packet: packet().ipv4().udp().bytes(), xdp: { metadata: others } });
    expect([crowded.returnValue, crowded.xdp?.metadata]).toEqual([2, others]);
  });
}
