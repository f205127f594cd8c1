/** One pipeline at all three hooks: what its test runs meet. */
import type { Engine } from '@tailrace/bpf';
import { hash, perCpuArray, stage, struct, u16, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';
import { packetOf } from './sample.ts';

/** Bytes by tenant. */
export const tenants = hash({ name: 'tenants', key: u16, value: u64, maxEntries: 16 });
/** All that any direction sees. */
export const totals = perCpuArray({ name: 'totals', value: struct({ packets: u64, bytes: u64 }), maxEntries: 1 });

/** The destination port of UDP is the tenant. */
const classify = stage({
  name: 'classify',
  hook: 'xdp',
  writes: { length: u32, tenant: u16 },
  program(ctx) {
    const udp = ctx.udp();
    ctx.meta.tenant = udp ? udp.dport : 0;
    ctx.meta.length = ctx.length;
    return ctx.next();
  },
});
const account = stage({
  name: 'account',
  hook: 'tcIngress',
  reads: { length: u32, tenant: u16 },
  uses: { tenants },
  program(ctx, { tenants }) {
    const known = tenants.lookup(ctx.meta.tenant);
    if (!known) return ctx.meta.tenant === 0 ? ctx.next() : ctx.drop();
    known.value += BigInt(ctx.meta.length);
    return ctx.next();
  },
});
/** Stands at both directions. */
export const count = stage({
  name: 'count',
  hook: 'tc',
  uses: { totals },
  program(ctx, { totals }) {
    const sum = totals.lookup(0);
    if (!sum) return ctx.drop();
    sum.packets += 1n;
    sum.bytes += BigInt(ctx.length);
    return ctx.next();
  },
});
/** All hooks. */
export const edge = pipeline('edge', { xdp: [classify], tcIngress: [account, count], tcEgress: [count] });

/** The cases, on an engine. */
export function hooksSuite(engine: Engine): void {
  test('test runs go into any of the chains', async () => {
    await using running = await edge.run(engine);
    expect((await running.run(packetOf(60))).verdict).toBe('pass');
    // nothing came through XDP: the fields are 0
    expect((await running.run(packetOf(60), { hook: 'tcIngress' })).verdict).toBe('pass');
    expect((await running.run(packetOf(60), { hook: 'tcEgress', skb: { mark: 7 } })).verdict).toBe('pass');
    const { xdp, tcIngress, tcEgress, roots } = running.stats();
    expect([xdp.classify.packets, tcIngress.account.packets, tcIngress.count.packets, tcEgress.count.packets]).toEqual([1n, 1n, 1n, 1n]);
    expect(roots.tcIngress.withoutMetadata).toBe(1n);
  });
}
