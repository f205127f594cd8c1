/** Metadata that go from XDP to TC in front of the packet, over real links. */
import { type KernelInstance, kernel } from '@tailrace/kernel';
import { arrayMap, decode, stage, struct, toMapSpec, u64 } from '@tailrace/stage';
import { eventually, packet, type Topology, topology } from '@tailrace/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compileRoot } from './compile.ts';
import { Chain, color, crossing, crossingSuite, fields, inCb, inState, offsetOf, tcRoot } from './crossing.suite.ts';
import type { Placement } from './placement.ts';

crossingSuite(kernel({ interfaces: [] }));

describe('from XDP to TC', () => {
  let net: Topology<'sender' | 'box'>;
  beforeAll(async () => {
    net = await topology({ hosts: { sender: {}, box: {} }, links: [{ ends: [{ host: 'sender' }, { host: 'box', xdp: true }] }] });
  });
  afterAll(() => net.close());

  const marker = stage({
    name: 'one',
    hook: 'xdp',
    writes: fields,
    program(ctx) {
      const ip = ctx.ipv4();
      if (!ip) return ctx.drop();
      ctx.meta.color = { hue: ip.ttl, shade: ip.daddr };
      ctx.meta.big = 0x0102030405060708n;
      if (ip.ttl === 3) return ctx.exit('three');
      return ip.ttl === 2 ? ctx.pass() : ctx.next();
    },
  });
  const Seen = struct({ packets: u64, color, big: u64 });
  const seen = arrayMap({ name: 'seen', value: Seen, maxEntries: 1 });
  const reader = stage({
    name: 'one',
    hook: 'tcIngress',
    reads: fields,
    uses: { seen },
    program(ctx, { seen }) {
      const ip = ctx.ipv4();
      const s = seen.lookup(0);
      if (!ip || !s) return ctx.next();
      s.packets += 1n;
      s.color = ctx.meta.color;
      s.big = ctx.meta.big;
      return ctx.next();
    },
  });
  const frame = (ttl: number) =>
    packet()
      .ethernet({ dst: net.hosts.box.mac('sender') })
      .ipv4({ ttl, daddr: '10.1.2.3' })
      .udp()
      .payload(10);

  /** Both chains on the box's interface; what TC has seen after a frame. */
  async function chains(engine: KernelInstance, xdp: Omit<Placement, 'array' | 'state'> | undefined) {
    const before = new Chain(engine);
    const after = new Chain(engine);
    const map = engine.createMap(toMapSpec(seen, 'seen'));
    await after.place(0, reader, { next: { verdict: 'pass' }, exits: {}, metadata: inCb }, { seen: map });
    if (xdp) {
      const state = { map: 'state', length: offsetOf('length'), misses: offsetOf('misses') };
      await before.place(0, marker, xdp);
      await engine.attach(await before.load(compileRoot({ name: 'root', array: 'chain', state })), 'xdp');
    }
    await engine.attach(await after.load(tcRoot), 'tcIngress');
    const read = () => decode(Seen, map.lookup(new Uint8Array(4)) ?? new Uint8Array(Seen.layout.size)) as { packets: bigint };
    return {
      before,
      after,
      async send(ttl: number) {
        const { packets } = read();
        net.hosts.sender.frames('box').send(frame(ttl));
        await eventually(() => read().packets > packets, 2000, 'the packet at TC');
        return read();
      },
    };
  }
  const colored = (hue: number) => ({ color: { hue, shade: 0x0a010203 }, big: 0x0102030405060708n });

  test('by pass, along edges, and where the chain misses', async () => {
    await using engine = await kernel({ interfaces: ['sender'], netns: net.hosts.box.namespace }).open();
    const { before, after, send } = await chains(engine, {
      next: { slot: 3 },
      exits: { three: { verdict: 'pass' } },
      metadata: inState,
      crossing,
    });
    expect(await send(2)).toEqual({ packets: 1n, ...colored(2) });
    expect(await send(3)).toEqual({ packets: 2n, ...colored(3) });
    // next() leads to an empty slot, and passes for that
    expect(await send(4)).toEqual({ packets: 3n, ...colored(4) });
    expect(after.word('missing')).toBe(0);
    expect(before.counted('one', 'xdp', ['three'])).toMatchObject({ pass: 1, 'exit:three': 1, next: 1, misses: 1 });
  });

  test('what does not cross is zero, and counted', async () => {
    await using engine = await kernel({ interfaces: ['sender'], netns: net.hosts.box.namespace }).open();
    const { after, send } = await chains(engine, undefined);
    expect(await send(2)).toEqual({ packets: 1n, color: { hue: 0, shade: 0 }, big: 0n });
    expect(after.word('missing')).toBe(1);
  });

  test('metadata of others are not taken for ours', async () => {
    await using engine = await kernel({ interfaces: ['sender'], netns: net.hosts.box.namespace }).open();
    const { after, send } = await chains(engine, {
      next: { verdict: 'pass' },
      exits: { three: { verdict: 'drop' } },
      metadata: inState,
      crossing: { ...crossing, tag: 1 },
    });
    expect(await send(2)).toEqual({ packets: 1n, color: { hue: 0, shade: 0 }, big: 0n });
    expect(after.word('missing')).toBe(1);
  });
});
