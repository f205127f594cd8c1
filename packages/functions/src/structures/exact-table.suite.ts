/** The table on an engine against a Map: over live buckets, and while entries come and go. */
import type { Engine } from '@tailrace/bpf';
import { stage, u32, u64 } from '@tailrace/stage';
import { packet, runner } from '@tailrace/testing';
import { expect, it } from 'vitest';
import { exactTable } from './exact-table.ts';
import { unmix } from './mix.ts';

/** The cases, on an engine. */
export function exactTableSuite(engine: Engine): void {
  it('finds what a Map holds', async () => {
    const table = exactTable({ name: 'table', entries: 16 });
    const reader = stage({
      name: 'reader',
      hook: 'xdp',
      uses: { table },
      reads: { key: u64 },
      writes: { value: u32 },
      program(ctx, { table }) {
        ctx.meta.value = table.find(ctx.meta.key);
        return ctx.next();
      },
    });
    await using loaded = await runner(reader, { engine });
    const handle = loaded.handle(table);
    const model = new Map<bigint, number>();
    // three full buckets, and keys that lie anywhere
    const keys = [
      ...[0, 31, 63].flatMap((home) =>
        Array.from({ length: 8 }, (_, i) => unmix((BigInt(home) << 58n) | (BigInt(i) << (i < 4 ? 0n : 50n)))),
      ),
      ...Array.from({ length: 24 }, (_, i) => (BigInt(i) << 32n) | (80n << 16n) | 6n),
    ];
    const find = async (key: bigint) => (await loaded.run(packet(), { meta: { key } })).meta.value;
    let seed = 1;
    for (let step = 0; step < 400; step++) {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      const key = keys[(seed >>> 8) % keys.length] as bigint;
      if (seed >>> 30 === 0) expect(handle.delete(key)).toBe(model.delete(key));
      else {
        handle.set(key, 1 + (step % 63));
        model.set(key, 1 + (step % 63));
      }
      expect(await find(key)).toBe(model.get(key) ?? 0);
      if (step % 80 === 0) for (const key of keys) expect(await find(key)).toBe(model.get(key) ?? 0);
    }
    expect(model.size).toBeGreaterThan(24);
    expect(new Map(handle.entries())).toEqual(model);
    handle.clear();
    for (const key of keys) expect(await find(key)).toBe(0);
  });
}
