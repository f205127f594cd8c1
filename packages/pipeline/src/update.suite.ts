/** Pipelines that become others while packets run: real programs and maps, metadata from XDP to TC ingress among them. */
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '@tailrace/bpf';
import { hash, stage, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { packetOf } from './sample.ts';

const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 8 });
/** Counts packets by generation, in one map for all. */
const count = (generation: number) =>
  stage({
    name: `count${generation % 3}`,
    hook: 'xdp',
    uses: { seen, generation },
    program(ctx, { seen, generation }) {
      const known = seen.lookup(generation);
      if (known) known.value += 1n;
      return ctx.next();
    },
  });

/** The cases, on an engine. */
export function updateSuite(engine: Engine): void {
  test('while packets run, one pipeline becomes the next: every packet is in one, none is missed', async () => {
    // the first stage writes the generation, the last drops what comes with another one
    const edge = (generation: number) => {
      const write = stage({
        name: 'write',
        hook: 'xdp',
        writes: { generation: u32 },
        uses: { generation },
        program(ctx, { generation }) {
          ctx.meta.generation = generation;
          return ctx.length > 60 ? ctx.exit('long') : ctx.next();
        },
      });
      const check = stage({
        name: 'check',
        hook: 'xdp',
        reads: { generation: u32 },
        uses: { generation },
        onMiss: 'drop',
        program: (ctx, { generation }) => (ctx.meta.generation === generation ? ctx.next() : ctx.abort()),
      });
      const long = generation % 2 ? ([count(generation).as('long'), check.as('checkLong')] as const) : ('next' as const);
      return pipeline('edge', { xdp: [write.on({ long }), count(generation), check] });
    };
    await using running = await edge(0).run(engine);
    for (let generation = 0; generation < 4; generation++) running.map(seen).set(generation, 0n);
    let [going, packets] = [true, 0];
    const results = new Set<string>();
    const traffic = async (length: number): Promise<void> => {
      while (going) {
        results.add((await running.run(packetOf(length))).verdict);
        packets += 1;
        await setImmediate();
      }
    };
    const flows = [traffic(60), traffic(61)];
    for (let i = 1; i <= 12; i++) {
      const updated = await running.update(edge(i % 4));
      await setImmediate();
      expect(updated.describe()).toEqual(edge(i % 4).describe());
    }
    going = false;
    await Promise.all(flows);
    expect([...results]).toEqual(['pass']);
    const { xdp, roots } = running.stats();
    expect(xdp.write.packets).toBe(BigInt(packets));
    expect([...Object.values(xdp).map(({ misses }) => misses), roots.xdp.misses].every((misses) => misses === 0n)).toBe(true);
    const counted = [0, 1, 2, 3].map((generation) => running.map(seen).get(generation) ?? 0n);
    expect(counted.reduce((sum, value) => sum + value)).toBe(BigInt(packets));
  }, 60_000);

  test('metadata from XDP come to TC ingress as the present pipeline lays them out', async () => {
    const write = stage({
      name: 'write',
      hook: 'xdp',
      writes: { a: u32, b: u32 },
      program(ctx) {
        ctx.meta.a = 1;
        ctx.meta.b = 2;
        return ctx.next();
      },
    });
    const readA = stage({
      name: 'read',
      hook: 'tcIngress',
      reads: { a: u32 },
      program: (ctx) => (ctx.meta.a === 1 ? ctx.next() : ctx.drop()),
    });
    const readBoth = stage({
      name: 'both',
      hook: 'tcIngress',
      reads: { a: u32, b: u32 },
      program: (ctx) => (ctx.meta.a === 1 && ctx.meta.b === 2 ? ctx.next() : ctx.drop()),
    });
    const none = stage({ name: 'none', hook: 'tcIngress', program: (ctx) => ctx.next() });
    const shapes = [
      pipeline('meta', { xdp: [write], tcIngress: [none] }),
      pipeline('meta', { xdp: [write], tcIngress: [readA] }),
      pipeline('meta', { xdp: [write], tcIngress: [readBoth] }),
    ] as const;
    await using running = await shapes[0].run(engine);
    for (const at of [1, 2, 0, 2, 1, 0, 1] as const) {
      const now = await running.update(shapes[at] as (typeof shapes)[0]);
      expect(now.describe().crossing).toEqual([[], ['a'], ['a', 'b']][at]);
      expect((await now.run(packetOf(60), { hook: 'xdp' })).verdict).toBe('pass');
      // no metadata: the fields are 0
      const { verdict } = await now.run(packetOf(60), { hook: 'tcIngress' });
      expect(verdict).toBe(at === 0 ? 'pass' : 'drop');
      if (engine.kind === 'userspace') expect(await now.inject(packetOf(60))).toMatchObject({ hook: 'tcIngress', verdict: 'pass' });
    }
    // a stage that asks for more than the one that it replaces
    await running.replace(readA as never, readBoth as never);
    expect(running.describe().crossing).toEqual(['a', 'b']);
    if (engine.kind === 'userspace') expect(await running.inject(packetOf(60))).toMatchObject({ hook: 'tcIngress', verdict: 'pass' });
    expect(running.stats().roots).toMatchObject({ xdp: { misses: 0n }, tcIngress: { misses: 0n } });
  });
}
