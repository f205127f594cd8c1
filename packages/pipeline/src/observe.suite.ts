/** What a pipeline tells of packets, changed while it runs: on, off, otherwise, and nothing lost by it. */
import { setImmediate, setTimeout } from 'node:timers/promises';
import type { Engine } from '@tailrace/bpf';
import { stage, struct, u8, u32, u64 } from '@tailrace/stage';
import { firstValueFrom, type Observable } from 'rxjs';
import { expect, test } from 'vitest';
import { shown } from './path.suite.ts';
import { pipeline } from './pipeline.ts';
import { packetOf } from './sample.ts';

/** Packets are steered by their first byte. */
const first = stage({
  name: 'first',
  hook: 'xdp',
  uses: { Way: struct({ way: u8 }) },
  writes: { way: u32 },
  onMiss: 'drop',
  program(ctx, { Way }) {
    const header = ctx.at(Way, 0);
    if (!header) return ctx.abort();
    ctx.meta.way = header.way;
    return header.way === 1 ? ctx.drop('one') : ctx.next();
  },
});
const second = stage({
  name: 'second',
  hook: 'xdp',
  reads: { way: u32 },
  program: (ctx) => (ctx.meta.way === 2 ? ctx.drop() : ctx.next()),
});
const local = stage({
  name: 'local',
  hook: 'tcIngress',
  reads: { way: u32 },
  program: (ctx) => (ctx.meta.way === 3 ? ctx.drop('three') : ctx.next()),
});
const edge = pipeline('edge', { xdp: [first, second], tcIngress: [local] });

function packet(way: number): Uint8Array {
  const bytes = packetOf(60);
  bytes.set([way, 1, 2, 3]);
  return bytes;
}

/** Keeps what comes. */
function collected<T>(source: Observable<T>) {
  const state = { values: [] as T[], isDone: false, error: undefined as unknown };
  source.subscribe({
    next: (value) => state.values.push(value),
    error: (error: unknown) => {
      state.error = error;
    },
    complete: () => {
      state.isDone = true;
    },
  });
  return state;
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 5000; !holds() && Date.now() < end; ) await setTimeout(2);
  expect(holds()).toBe(true);
}

/** The cases, on an engine. */
export function observeSuite(engine: Engine): void {
  test('traces and drops come and go; counts go on', async () => {
    await using running = await edge.run(engine);
    const description = running.describe().chains.xdp.stages;
    await running.run(packet(0));
    await expect(firstValueFrom(running.trace$)).rejects.toMatchObject({
      message: 'the pipeline tells of no traces',
      hint: 'run it with observe: { trace: { every: 1000 } }, or ask for it now: running.observe({ trace: { every: 1000 } })',
    });
    await running.observe({ trace: { every: 1 } });
    const traced = collected(running.trace$);
    await running.run(packet(0));
    await until(() => traced.values.length === 1);
    expect(shown(traced.values[0]?.steps)).toBe('first next, second next');
    // what is left out stays
    await running.observe({ drops: true });
    const dropped = collected(running.drops$);
    await running.run(packet(1));
    await until(() => traced.values.length === 2 && dropped.values.length === 1);
    expect(dropped.values[0]).toMatchObject({ stage: 'first', reason: 'one' });
    await running.run(packet(2));
    await running.observe({ trace: false });
    // with all that was told
    expect([traced.isDone, traced.values.length]).toEqual([true, 3]);
    expect(dropped.isDone).toBe(false);
    await running.run(packet(2));
    await until(() => dropped.values.length === 3);
    await running.observe({ drops: false });
    expect([dropped.isDone, dropped.error]).toEqual([true, undefined]);
    await expect(firstValueFrom(running.drops$)).rejects.toThrow('the pipeline tells of no drops');
    const { xdp, roots, lost } = running.stats();
    expect([xdp.first.packets, xdp.first.verdicts.drop, xdp.second.verdicts.drop]).toEqual([5n, 1n, 2n]);
    expect([roots.xdp.misses, lost]).toEqual([0n, { trace: 0n, drops: 0n }]);
    expect(running.describe().chains.xdp.stages).toEqual(description);
  });

  test('a stream goes on where it is told otherwise: of fewer packets, with their bytes', async () => {
    await using running = await edge.run(engine, { observe: { trace: { every: 1_000_000 } } });
    const traced = collected(running.trace$);
    for (let i = 0; i < 8; i++) await running.run(packet(0));
    const before = traced.values.length;
    // the count down from a million is not waited for
    await running.observe({ trace: { every: 1 } });
    await running.run(packet(0));
    await until(() => traced.values.length > before);
    await running.observe({ trace: { every: 1, headerBytes: 4 } });
    await running.run(packet(7));
    await until(() => traced.values.at(-1)?.steps[0]?.header !== undefined);
    expect(traced.values.at(-1)?.steps.map(({ header }) => header)).toEqual([packet(7).subarray(0, 4), packet(7).subarray(0, 4)]);
    expect(traced.isDone).toBe(false);
    await running.stop();
    expect(traced.isDone).toBe(true);
  });

  test('what was lost is counted on', async () => {
    await using running = await edge.run(engine, { observe: { drops: { bytes: 4096 } } });
    const flood = async (): Promise<void> => {
      for (let i = 0; i < 120; i++) await running.run(packet(1));
    };
    await flood();
    const { lost } = running.stats();
    expect(lost.drops).toBeGreaterThan(0n);
    await running.observe({ drops: false });
    await flood();
    expect(running.stats().lost).toEqual(lost);
    await running.observe({ drops: { bytes: 4096 } });
    expect(running.stats().lost).toEqual(lost);
    await flood();
    expect(running.stats().lost.drops).toBe(2n * lost.drops);
  });

  test('counters: off there are none, and on again they go on', async () => {
    await using running = await edge.run(engine);
    for (let i = 0; i < 3; i++) await running.run(packet(1));
    await running.observe({ counters: false });
    expect((await running.run(packet(1))).path).toBeUndefined();
    expect(() => running.stats()).toThrow("pipeline 'edge' counts nothing");
    await running.observe({ counters: true });
    expect(running.stats().xdp.first.packets).toBe(3n);
    expect(shown((await running.run(packet(0))).path)).toBe('first next, second next');
    expect(running.stats().xdp.first).toMatchObject({ packets: 4n, next: 1n, drops: { one: 3n } });
  });

  test('stages that come later are told of, and a swap of the first one keeps what is in front of it', async () => {
    await using running = await edge.run(engine);
    await running.observe({ trace: { every: 1 } });
    const traced = collected(running.trace$);
    const swapped = stage({
      name: 'swapped',
      hook: 'xdp',
      writes: { way: u32 },
      program(ctx) {
        ctx.meta.way = 2;
        return ctx.next();
      },
    });
    await running.replace(first, swapped);
    await running.run(packet(0));
    await running.update(edge);
    await running.run(packet(0));
    await until(() => traced.values.length === 2);
    expect(traced.values.map(({ steps }) => shown(steps))).toEqual(['first next, second drop', 'first next, second next']);
  });

  test('what cannot be leaves all as it is', async () => {
    const wide = { a: u64, b: u64, c: u32 };
    const fills = stage({
      name: 'fills',
      hook: 'tcEgress',
      writes: wide,
      program(ctx) {
        ctx.meta.a = 1n;
        ctx.meta.b = 2n;
        ctx.meta.c = 3;
        return ctx.next();
      },
    });
    await using full = await pipeline('full', { tcEgress: [fills] }).run(engine);
    await expect(full.observe({ trace: { every: 1 } })).rejects.toThrow("__sk_buff.cb has no room for metadata 'c': 4 bytes, of 20");
    await expect(full.observe({ drops: { headerBytes: 1000 } })).rejects.toThrow('observe: drops.headerBytes is 1000, expected 0..128');
    await expect(firstValueFrom(full.trace$)).rejects.toThrow('the pipeline tells of no traces');
    await full.run(packet(0));
    expect(full.stats().tcEgress.fills.next).toBe(1n);
    await using running = await edge.run(engine);
    await using trial = await running.canary(edge, { share: 0.5 });
    await expect(running.observe({ drops: true })).rejects.toThrow(
      "pipeline 'edge' has a canary, and cannot tell of packets otherwise meanwhile",
    );
    await trial.rollBack();
    await running.observe({ drops: true });
    await running.stop();
    await expect(running.observe({ drops: false })).rejects.toThrow("pipeline 'edge' was stopped");
  });

  test('while packets run it is switched on and off: none is missed, all are counted', async () => {
    await using running = await edge.run(engine);
    let [going, packets] = [true, 0n];
    const traffic = (async () => {
      for (; going; packets++) {
        expect((await running.run(packet(Number(packets % 3n)))).verdict).toBe(packets % 3n === 0n ? 'pass' : 'drop');
        await setImmediate();
      }
    })();
    for (let i = 0; i < 12; i++)
      await running.observe(
        i % 4 === 0 ? { trace: { every: 2 } } : i % 4 === 1 ? { drops: true } : i % 4 === 2 ? { trace: false } : { drops: false },
      );
    going = false;
    await traffic;
    const { xdp, roots } = running.stats();
    expect([xdp.first.packets, xdp.first.misses, roots.xdp.misses]).toEqual([packets, 0n, 0n]);
  }, 60_000);
}
