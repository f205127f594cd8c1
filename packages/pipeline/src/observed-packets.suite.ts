/** What a pipeline tells of single packets, on an engine: the ways of those that are traced, and those that are dropped. */
import { setTimeout } from 'node:timers/promises';
import { ArgumentError, type Engine } from '@tailrace/bpf';
import { stage, struct, u8, u32, u64 } from '@tailrace/stage';
import fc from 'fast-check';
import { firstValueFrom, map, type Observable } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { shown, watched } from './path.suite.ts';
import { pipeline } from './pipeline.ts';
import { packetOf } from './sample.ts';

/** Packets are steered by their first byte. */
const first = stage({
  name: 'first',
  hook: 'xdp',
  uses: { Way: struct({ way: u8 }) },
  writes: { way: u32 },
  program(ctx, { Way }) {
    const header = ctx.at(Way, 0);
    if (!header) return ctx.abort('runt');
    const way = header.way;
    ctx.meta.way = way;
    if (way === 1) return ctx.drop('one');
    if (way === 2) return ctx.exit('two');
    if (way === 3) return ctx.exit('three');
    if (way === 4) return ctx.abort();
    return ctx.next();
  },
});
const second = stage({
  name: 'second',
  hook: 'xdp',
  reads: { way: u32 },
  program(ctx) {
    if (ctx.meta.way === 5) return ctx.tx();
    return ctx.meta.way === 6 ? ctx.drop() : ctx.next();
  },
});
const aside = stage({ name: 'aside', hook: 'xdp', reads: { way: u32 }, program: (ctx) => (ctx.length > 99 ? ctx.next() : ctx.pass()) });
const local = stage({
  name: 'local',
  hook: 'tcIngress',
  program(ctx) {
    if (ctx.length === 77) return ctx.drop('lucky');
    return ctx.length % 2 === 1 ? ctx.exit('odd') : ctx.next();
  },
});
const count = stage({ name: 'count', hook: 'tcIngress', program: (ctx) => ctx.next() });
const edgeOf = (fuse: boolean) =>
  pipeline('edge', { xdp: [first.on({ two: 'drop', three: [aside, 'next'] }), second], tcIngress: [local.on({ odd: [count] })] }, { fuse });
const [edge, fused] = [edgeOf(false), edgeOf(true)];

function packet(way: number, length = 60): Uint8Array {
  const bytes = packetOf(length);
  bytes.set([way, 1, 2, 3, 4, 5, 6, 7]);
  return bytes;
}

/** Keeps what comes. */
function collected<T>(source: Observable<T>) {
  const values: T[] = [];
  const state = { values, isDone: false, error: undefined as unknown };
  const subscription = source.subscribe({
    next: (value) => values.push(value),
    error: (error: unknown) => {
      state.error = error;
    },
    complete: () => {
      state.isDone = true;
    },
  });
  const reached = async (count: number): Promise<readonly T[]> => {
    for (const until = Date.now() + 5000; values.length < count && Date.now() < until; ) await setTimeout(2);
    return values;
  };
  return Object.assign(state, { subscription, reached });
}

/** The cases, on an engine. */
export function observedPacketsSuite(engine: Engine): void {
  test.each([
    ['chained', edge],
    ['fused', fused],
  ])('traced ways are those that the counters tell, whatever the packets: %s', async (_, subject) => {
    await using running = await subject.run(engine, { observe: { trace: { every: 1 } } });
    const traced = collected(running.trace$);
    const sent = fc.record({ hook: fc.constantFrom('xdp', 'tcIngress'), way: fc.nat(7), length: fc.integer({ min: 60, max: 120 }) });
    let count = 0;
    await fc.assert(
      fc.asyncProperty(sent, async ({ hook, way, length }) => {
        const { path, verdict } = await running.run(packet(way, length), { hook });
        count += 1;
        const told = (await traced.reached(count))[count - 1];
        expect(told).toMatchObject({ hook, verdict });
        expect(path).toBeDefined();
        expect(told?.steps.map(({ timeNs: _, length: __, ...step }) => step)).toEqual(path);
        expect(new Set(told?.steps.map((step) => step.length))).toEqual(new Set([length]));
        const times = told?.steps.map(({ timeNs }) => timeNs) ?? [];
        expect(times).toEqual(times.toSorted((a, b) => Number(a - b)));
      }),
      { numRuns: 60 },
    );
    expect(traced.values).toHaveLength(count);
    expect(running.stats().lost).toEqual({ trace: 0n, drops: 0n });
  });

  test('one packet in so many, with its first bytes', async () => {
    await using running = await edge.run(engine, { observe: { trace: { every: 4, headerBytes: 100 } } });
    const traced = collected(running.trace$);
    for (let i = 0; i < 20; i++) await running.run(packet(3, 60 + i));
    await traced.reached(5);
    await setTimeout(10);
    // each CPU counts for itself
    expect([5, 6]).toContain(traced.values.length);
    for (const { steps } of traced.values)
      for (const { length, header } of steps) expect(header).toEqual(packet(3, length).subarray(0, 100));
  });

  test('every drop, why, and where', async () => {
    await using running = await edge.run(engine, { observe: { drops: { headerBytes: 8 } } });
    const dropped = collected(running.drops$);
    for (const way of [0, 1, 2, 3, 4, 5, 6]) await running.run(packet(way));
    await running.run(packet(0, 77), { hook: 'tcIngress' });
    await running.run(packet(0, 79), { hook: 'tcIngress' });
    const drops = await dropped.reached(5);
    expect(drops.map(({ cpu: _, timeNs: __, header: ___, ...drop }) => drop)).toEqual([
      { hook: 'xdp', stage: 'first', verdict: 'drop', by: 'drop', reason: 'one', length: 60, lost: 0n },
      { hook: 'xdp', stage: 'first', verdict: 'drop', by: 'exit', exit: 'two', length: 60, lost: 0n },
      { hook: 'xdp', stage: 'first', verdict: 'abort', by: 'abort', length: 60, lost: 0n },
      { hook: 'xdp', stage: 'second', verdict: 'drop', by: 'drop', length: 60, lost: 0n },
      { hook: 'tcIngress', stage: 'local', verdict: 'drop', by: 'drop', reason: 'lucky', length: 77, lost: 0n },
    ]);
    expect(drops.map(({ header }) => header?.[0])).toEqual([1, 2, 4, 6, 0]);
  });

  test('tail calls that come back: the last step missed, and a guard drops', async () => {
    const guard = stage({ name: 'guard', hook: 'xdp', onMiss: 'drop', program: (ctx) => ctx.next() });
    const { engine: seen, maps } = watched(engine);
    const behind = stage({ name: 'behind', hook: 'xdp', program: (ctx) => ctx.next() });
    await using running = await pipeline('miss', { xdp: [guard, behind] }).run(seen, { observe: { trace: { every: 1 }, drops: true } });
    const [traced, dropped] = [collected(running.trace$), collected(running.drops$)];
    maps.get('miss/xdp.array')?.delete(new Uint8Array(4));
    const { path, verdict } = await running.run(packet(0));
    expect([shown(path), verdict]).toEqual(['guard next (missed)', 'drop']);
    const [way] = await traced.reached(1);
    expect([shown(way?.steps), way?.verdict]).toEqual(['guard next (missed)', 'drop']);
    const [drop] = await dropped.reached(1);
    expect(drop).toMatchObject({ stage: 'guard', verdict: 'drop', by: 'miss' });
  });

  test('records that find the ring full are counted, and ways are whole or not told', async () => {
    await using running = await edge.run(engine, { observe: { trace: { every: 1, bytes: 4096 }, drops: { bytes: 4096 } } });
    const [sent, shape] = [200, ['first next', 'second drop']];
    for (let i = 0; i < sent; i++) await running.run(packet(6));
    const { lost } = running.stats();
    const [traced, dropped] = [collected(running.trace$), collected(running.drops$)];
    await traced.reached(1);
    await dropped.reached(1);
    await setTimeout(20);
    expect(BigInt(dropped.values.length) + lost.drops).toBe(BigInt(sent));
    expect(lost.drops).toBeGreaterThan(50n);
    expect(new Set(dropped.values.map((drop) => drop.lost))).toEqual(new Set([lost.drops]));
    const whole = BigInt(2 * traced.values.length);
    expect([0n, 1n]).toContain(BigInt(2 * sent) - lost.trace - whole);
    expect(lost.trace).toBeGreaterThan(100n);
    for (const { steps, lost: told } of traced.values) {
      expect(steps.map(({ stage, verdict }) => `${stage} ${verdict}`)).toEqual(shape);
      expect(told).toBe(lost.trace);
    }
    // there is room again
    const before = dropped.values.length;
    await running.run(packet(6));
    expect(await dropped.reached(before + 1)).toHaveLength(before + 1);
    expect(running.stats().lost).toEqual(lost);
  });

  test('shared: the last one to leave ends reading, one that fails harms no other, stopping completes', async () => {
    const running = await edge.run(engine, { observe: { trace: { every: 1 }, drops: true } });
    const failing = collected(
      running.drops$.pipe(
        map(({ exit }) => {
          if (exit === 'two') throw new RangeError('mine');
          return exit;
        }),
      ),
    );
    const other = collected(running.drops$);
    await running.run(packet(1));
    await running.run(packet(2));
    await other.reached(2);
    expect([failing.values, failing.error]).toEqual([[undefined], new RangeError('mine')]);
    other.subscription.unsubscribe();
    await running.run(packet(1));
    await setTimeout(10);
    expect(other.values).toHaveLength(2);
    // what nobody read is still there
    expect((await firstValueFrom(running.drops$)).reason).toBe('one');
    const [last, trace] = [collected(running.drops$), collected(running.trace$)];
    await running.run(packet(6));
    await running.stop();
    expect([last.isDone, trace.isDone]).toEqual([true, true]);
    expect(last.values).toHaveLength(1);
    expect(trace.values.map(({ steps }) => steps.at(-1)?.stage)).toEqual(['first', 'first', 'first', 'second']);
    const late = collected(running.trace$);
    expect([late.isDone, late.error]).toEqual([true, undefined]);
  });

  test('after a swap, and after an update, records mean what their stages meant', async () => {
    await using running = await edge.run(engine, { observe: { trace: { every: 1 }, drops: true } });
    const dropped = collected(running.drops$);
    await running.run(packet(1));
    const other = stage({
      name: 'other',
      hook: 'xdp',
      writes: { way: u32 },
      program(ctx) {
        ctx.meta.way = 0;
        if (ctx.length === 61) return ctx.drop('another');
        return ctx.length === 62 ? ctx.abort('broken') : ctx.exit('three');
      },
    });
    await running.replace(first, other);
    await running.run(packet(1, 61));
    await running.run(packet(1, 62));
    const next = pipeline('edge', {
      xdp: [stage({ name: 'fresh', hook: 'xdp', program: (ctx) => ctx.drop('new') })],
      tcIngress: [stage({ name: 'local', hook: 'tcIngress', program: (ctx) => ctx.drop('local') })],
    });
    const updated = await running.update(next);
    await updated.run(packet(0));
    await updated.run(packet(0), { hook: 'tcIngress' });
    const drops = await dropped.reached(5);
    expect(drops.map(({ stage, verdict, reason }) => `${stage} ${verdict} ${reason}`)).toEqual([
      'first drop one',
      'first drop another',
      'first abort broken',
      'fresh drop new',
      'local drop local',
    ]);
  });

  test('without counters packets are told of all the same', async () => {
    await using running = await edge.run(engine, { observe: { counters: false, trace: { every: 1 } } });
    const traced = collected(running.trace$);
    const { path, verdict } = await running.run(packet(3, 120));
    expect([path, verdict]).toEqual([undefined, 'pass']);
    const [way] = await traced.reached(1);
    expect(shown(way?.steps)).toBe('first three, aside next, second next');
    expect(() => running.stats()).toThrow("pipeline 'edge' counts nothing");
    await expect(firstValueFrom(running.stats$)).rejects.toThrow(ArgumentError);
    await using bare = await edge.run(engine, { observe: { counters: false } });
    expect((await bare.run(packet(6))).verdict).toBe('drop');
  });

  describe('what cannot be', () => {
    test('streams that were not asked for', async () => {
      await using running = await edge.run(engine);
      await expect(firstValueFrom(running.trace$)).rejects.toThrow('the pipeline tells of no traces');
      await expect(firstValueFrom(running.drops$)).rejects.toThrow('the pipeline tells of no drops');
    });

    test('options', async () => {
      const run = (observe: NonNullable<Parameters<typeof edge.run>[1]>['observe']) => edge.run(engine, observe ? { observe } : {});
      await expect(run({ trace: { every: 0 } })).rejects.toThrow('observe: trace.every is 0, expected an integer from 1 on');
      await expect(run({ trace: { every: 1, headerBytes: 129 } })).rejects.toThrow('observe: trace.headerBytes is 129, expected 0..128');
      await expect(run({ drops: { every: 1.5 } })).rejects.toThrow('observe: drops.every is 1.5');
      await expect(run({ drops: { bytes: 5000 } })).rejects.toThrow(ArgumentError);
    });

    test("metadata that leave no room for a trace's mark", async () => {
      const big = { a: u64, b: u64 };
      const full = pipeline('full', {
        tcEgress: [
          stage({
            name: 'full',
            hook: 'tcEgress',
            writes: { ...big, c: u32 },
            program(ctx) {
              ctx.meta.a = 1n;
              ctx.meta.b = 2n;
              ctx.meta.c = 3;
              return ctx.next();
            },
          }),
        ],
      });
      await using running = await full.run(engine);
      expect(running.name).toBe('full');
      await expect(full.run(engine, { observe: { trace: { every: 1 } } })).rejects.toThrow(
        "__sk_buff.cb has no room for metadata 'c': 4 bytes, of 20",
      );
    });
  });
}
