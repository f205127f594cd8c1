/** `ctx.length` and the byte counters follow the packet's ends along a chain. */
import type { Engine } from '@tailrace/bpf';
import { stage, u32 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { pipeline } from './pipeline.ts';

const move = stage({
  name: 'move',
  hook: 'xdp',
  writes: { before: u32, between: u32 },
  program(ctx) {
    ctx.meta.before = ctx.length;
    if (!ctx.adjustHead(-20)) return ctx.abort();
    ctx.meta.between = ctx.length;
    if (!ctx.adjustTail(-4)) return ctx.abort();
    if (ctx.adjustHead(10_000)) return ctx.abort();
    return ctx.next();
  },
});
const judge = stage({
  name: 'judge',
  hook: 'xdp',
  reads: { before: u32, between: u32 },
  program(ctx) {
    if (ctx.meta.between !== ctx.meta.before + 20) return ctx.abort();
    if (ctx.length !== ctx.meta.before + 16) return ctx.abort();
    return ctx.drop();
  },
});

/** The cases, on an engine. */
export function lengthSuite(engine: Engine): void {
  test('lengths along a chain that moves the packet', async () => {
    await using running = await pipeline('lengths', { xdp: [move, judge] }).run(engine);
    const frame = packet().ipv4().udp().payload(100).bytes();
    const result = await running.run(frame);
    expect(result.verdict).toBe('drop');
    expect(result.packet.length).toBe(frame.length + 16);
    const { xdp } = running.stats();
    expect(xdp.judge.bytes).toBe(BigInt(frame.length + 16));
    expect(xdp.judge.packets).toBe(1n);
  });
}
