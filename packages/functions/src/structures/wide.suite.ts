/** The wide structures, compiled and run by an engine, do what their bodies do as plain JavaScript. */
import type { Engine } from '@tailrace/bpf';
import { bool, stage, u32, u64 } from '@tailrace/stage';
import { packet, runner, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import { expect, it } from 'vitest';
import { wideFlowCache } from './wide-flow-cache.ts';
import { wideTable } from './wide-table.ts';

const frame = packet().payload('').bytes();
const reads = { hi: u64, lo: u64, low: u64 };

/** The cases, on an engine. */
export function wideSuite(engine: Engine): void {
  it('a wide flow cache', async () => {
    const cache = wideFlowCache({ name: 'flows', flows: 128 });
    const probe = stage({
      name: 'probe',
      hook: 'xdp',
      uses: { cache },
      reads: { ...reads, store: bool },
      writes: { value: u32 },
      program(ctx, { cache }) {
        const { hi, lo, low } = ctx.meta;
        const key = low & 0xffff_ffffn;
        if (ctx.meta.store) cache.insert(hi, lo, key, ctx.meta.value);
        else ctx.meta.value = cache.find(hi, lo, key);
        return ctx.next();
      },
    });
    await using live = await runner(probe, { engine });
    const maps = new SimulatedMaps();
    for (let i = 0; i < 1500; i++) {
      const flow = BigInt((i * 7) % 190);
      const meta = { hi: flow % 3n, lo: flow * 0x1_0000_0001n, low: flow << 16n, store: i % 3 === 0, value: i % 5 === 0 ? 0 : i % 70_000 };
      const expected = simulate(probe, frame, { maps, meta });
      expect((await live.run(frame, { meta })).meta).toEqual(expected.meta);
    }
    const [simulated, filled] = [simulatedHandle(maps, cache), live.handle(cache)];
    expect([...filled.flows()]).toEqual([...simulated.flows()]);
    expect(filled.size).toBeGreaterThan(60);
  });

  it('a wide table', async () => {
    const table = wideTable({ name: 'table', entries: 20 });
    const probe = stage({
      name: 'probe',
      hook: 'xdp',
      uses: { table },
      reads,
      writes: { value: u32 },
      program(ctx, { table }) {
        ctx.meta.value = table.find(ctx.meta.hi, ctx.meta.lo, ctx.meta.low);
        return ctx.next();
      },
    });
    await using live = await runner(probe, { engine });
    const handle = live.handle(table);
    const key = (i: number) => ({ hi: 0x2001_0db8_0000_0000n, lo: BigInt(i), low: (80n << 16n) | 6n });
    for (let i = 0; i < 20; i++) handle.set(key(i), i + 100);
    const find = async (meta: { hi: bigint; lo: bigint; low: bigint }) => (await live.run(frame, { meta })).meta.value;
    for (let i = 0; i < 20; i++) expect(await find(key(i))).toBe(i + 100);
    expect([await find(key(20)), await find({ ...key(1), low: 1n << 40n }), await find({ ...key(1), hi: 0n })]).toEqual([0, 0, 0]);
    handle.delete(key(3));
    expect([await find(key(3)), await find(key(4))]).toEqual([0, 104]);
  });
}
