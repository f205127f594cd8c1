/** Drop reasons on an engine: counted beside the verdict, told by paths, unknown to the packet. */
import type { Engine } from '@tailrace/bpf';
import { stage } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { packetOf } from './sample.ts';

const guard = stage({
  name: 'guard',
  hook: 'xdp',
  program(ctx) {
    if (ctx.length < 40) return ctx.drop('short');
    if (ctx.length < 60) return ctx.drop(ctx.length < 50 ? 'small' : 'short');
    if (ctx.length > 1000) return ctx.abort('long');
    if (ctx.length === 100) return ctx.drop();
    return ctx.length > 900 ? ctx.exit('big') : ctx.next();
  },
});
const filter = stage({ name: 'filter', hook: 'tc', program: (ctx) => (ctx.length < 80 ? ctx.drop('short') : ctx.next()) });
const edge = pipeline('edge', { xdp: [guard.on({ big: 'drop' })], tcIngress: [filter.at('tcIngress')] });

/** The cases, on an engine. */
export function reasonSuite(engine: Engine): void {
  test('packets are counted by reason, and in all', async () => {
    await using running = await edge.run(engine);
    for (const length of [30, 39, 45, 55, 100, 70, 950]) await running.run(packetOf(length));
    await running.run(packetOf(1200));
    const { guard: counts } = running.stats().xdp;
    expect(counts.drops).toEqual({ short: 3n, small: 1n, long: 1n });
    expect(counts).toMatchObject({ packets: 8n, verdicts: { drop: 5n, abort: 1n, pass: 0n }, next: 1n, exits: { big: 1n } });
    expect(running.describe().chains.xdp.stages[0]?.reasons).toEqual(['long', 'short', 'small']);
  });

  test('at TC, where a packet counts for its segments', async () => {
    await using running = await edge.run(engine);
    await running.run(packetOf(60), { hook: 'tcIngress', skb: { gsoSegments: 3, gsoSize: 10 } });
    await running.run(packetOf(90), { hook: 'tcIngress' });
    expect(running.stats().tcIngress.filter).toMatchObject({ drops: { short: 3n }, verdicts: { drop: 3n }, next: 1n, packets: 4n });
  });

  test('paths tell the reason', async () => {
    await using running = await edge.run(engine);
    const path = async (length: number) => (await running.run(packetOf(length))).path;
    expect(await path(30)).toEqual([{ stage: 'guard', verdict: 'drop', reason: 'short' }]);
    expect(await path(1200)).toEqual([{ stage: 'guard', verdict: 'abort', reason: 'long' }]);
    expect(await path(100)).toEqual([{ stage: 'guard', verdict: 'drop' }]);
  });

  test('a stage that replaces another brings its own, and the counts go on', async () => {
    await using running = await edge.run(engine);
    await running.run(packetOf(30));
    const other = stage({
      name: 'other',
      hook: 'xdp',
      program: (ctx) => (ctx.length < 40 ? ctx.drop('tiny') : ctx.length < 60 ? ctx.drop('short') : ctx.exit('big')),
    });
    await running.replace(guard, other);
    await running.run(packetOf(30));
    await running.run(packetOf(50));
    await running.run(packetOf(60));
    const { guard: counts } = running.stats().xdp;
    expect(counts).toMatchObject({ packets: 4n, verdicts: { drop: 3n }, drops: { short: 2n, tiny: 1n, small: 0n }, exits: { big: 1n } });
  });
}
