/** Stages at every hook that they can serve, on an engine as simulated. */
import type { Engine } from '@tailrace/bpf';
import { hash, stage, u8, u16, u32, u64 } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { everywhere, runEverywhere } from './everywhere.ts';
import './matchers.ts';
import { fragments, truncations } from './mutation.ts';
import { type Packet, packet } from './packet.ts';
import { run } from './run.ts';
import { simulate } from './simulation.ts';

const flows = hash({ name: 'flows', key: u32, value: u64, maxEntries: 8 });
const count = stage({
  name: 'count',
  hook: 'xdp',
  uses: { flows },
  reads: { zone: u16 },
  writes: { seen: u32 },
  program(ctx, { flows }) {
    const ip = ctx.ipv4();
    ctx.meta.seen = ctx.length + ctx.meta.zone;
    if (!ip) return ctx.next();
    const flow = flows.lookup(ip.saddr);
    if (flow) {
      flow.value += BigInt(ctx.length);
      if (flow.value > 300n) return ctx.exit('heavy');
      return ctx.pass();
    }
    ip.ttl -= 1;
    return flows.update(ip.saddr, 1n) ? ctx.drop() : ctx.exit('full');
  },
});

/** Says which headers a packet has and what is known of them. */
const headers = stage({
  name: 'headers',
  hook: 'xdp',
  writes: { found: u32, where: u16 },
  program(ctx) {
    const tcp = ctx.tcp();
    const udp = ctx.udp();
    ctx.meta.found =
      (ctx.ipv4() ? 2 : 0) |
      (ctx.ipv6() ? 4 : 0) |
      (tcp ? 16 : 0) |
      (udp ? 32 : 0) |
      (ctx.icmp() ? 64 : 0) |
      (ctx.icmpv6() ? 128 : 0) |
      (ctx.ports() ? 256 : 0);
    ctx.meta.where = tcp ? ctx.offsetOf(tcp) : udp ? ctx.offsetOf(udp) : 0;
    return ctx.next();
  },
});
const tunnels = stage({
  name: 'tunnels',
  hook: 'xdp',
  writes: { found: u32, protocol: u8 },
  program(ctx) {
    ctx.meta.found = (ctx.gre() ? 512 : 0) | (ctx.vxlan() ? 1024 : 0) | (ctx.gue() ? 2048 : 0) | (ctx.arp() ? 1 : 0);
    ctx.meta.protocol = ctx.protocol;
    return ctx.next();
  },
});
const surroundings = stage({
  name: 'surroundings',
  hook: 'xdp',
  writes: { fragment: u8, id: u32, tags: u8, outer: u16, inner: u16 },
  program(ctx) {
    const fragment = ctx.ipv6Fragment();
    ctx.meta.fragment = ctx.fragment ? 1 : 0;
    ctx.meta.id = fragment ? fragment.id : 0;
    ctx.meta.tags = ctx.vlanTags;
    ctx.meta.outer = ctx.vlanTci;
    ctx.meta.inner = ctx.innerVlanTci;
    return ctx.next();
  },
});

const networks = [
  packet().ipv4(),
  packet().ipv6(),
  packet()
    .ipv6()
    .hopByHop()
    .fragment()
    .destination({ options: new Uint8Array(14) }),
];
const tagged = (p: Packet): Packet[] => [p, p.vlan({ id: 5 }), p.vlan({ id: 6, tpid: 0x88a8 }).vlan({ id: 7 }), p.vlan().vlan().vlan()];
const wires: readonly Packet[] = [
  ...networks.flatMap((network) => [
    network.tcp().payload(4),
    network.udp().payload(4),
    network.gre({ key: 1 }).ipv4(),
    network.udp().vxlan().ethernet().ipv4(),
    network.udp().gue().ipv6(),
  ]),
  packet().ipv4().icmp(),
  packet().ipv6().icmpv6(),
  ...tagged(packet()).flatMap((p) => [p.arp(), p.ipv4().udp().payload(4), p.ipv6().routing().tcp()]),
  packet().ipv6().destination().destination().destination().destination().destination().destination().udp(),
  packet().ipv6().destination().destination().destination().destination().destination().destination().destination().udp(),
];

/** The cases, on an engine. */
export function everywhereSuite(engine: Engine): void {
  test('one stage, the same packets, the same answers', async () => {
    const one = packet().ipv4({ saddr: '10.0.0.1' }).tcp().payload(100);
    const frames = [one, one, one, one, packet().ipv6().udp(), packet().arp(), ...fragments(packet().ipv4().udp().payload(80), 40)];
    const results = await runEverywhere(count, frames, { engine, meta: { zone: 7 }, prepare: (handle) => handle(flows).set(5, 5n) });
    expect(results.map(({ verdict, exit }) => exit ?? verdict).slice(0, 5)).toEqual(['drop', 'pass', 'heavy', 'heavy', 'next']);
    expect(results[0]?.meta).toEqual({ zone: 7, seen: 154 + 7 });
  });

  test('fields of TC go in and come out', async () => {
    const marks = stage({
      name: 'marks',
      hook: 'tc',
      writes: { segments: u16 },
      program(ctx) {
        ctx.meta.segments = ctx.segments;
        ctx.mark += 0x10;
        ctx.priority = ctx.mark + 1;
        return ctx.mark === 0x11 ? ctx.redirect(ctx.ifindex) : ctx.drop();
      },
    });
    const result = await run(marks, packet().ipv4().tcp().payload(3000), {
      engine,
      hook: 'tcEgress',
      skb: { mark: 1, gsoSegments: 3, gsoSize: 1000 },
    });
    expect(result).toRedirect();
    expect(result).toMatchObject({ meta: { segments: 3 }, skb: { mark: 0x11, priority: 0x12 } });
    expect(await run(marks, packet(), { engine })).toDrop();
    const loaded = await everywhere(marks, { engine });
    try {
      expect(loaded.hooks).toEqual(['tcIngress', 'tcEgress']);
      expect(await loaded.run(packet().ipv4().udp(), { skb: { mark: 1 } })).toRedirect(1);
    } finally {
      await loaded.close();
    }
  });

  test('where a hook differs from its simulation it is said', async () => {
    const dice = stage({ name: 'dice', hook: 'tcIngress', program: (ctx) => (ctx.now() > 5n ? ctx.pass() : ctx.drop()) });
    await expect(runEverywhere(dice, [packet()], { engine, hooks: ['tcIngress'] })).rejects.toThrow(
      `stage 'dice' at tcIngress: the ${engine.kind === 'kernel' ? 'kernel' : 'userspace engine'} against the simulation: expected drop, got pass`,
    );
    await expect(runEverywhere(dice, [packet()], { engine, hooks: [] })).rejects.toThrow("stage 'dice' runs at no hook");
  });

  test.each([headers, tunnels, surroundings])(
    'real wires look the same everywhere, whole and cut: $name',
    async (probe) => {
      await using loaded = await everywhere(probe, { engine });
      expect(loaded.hooks).toEqual(['xdp', 'tcIngress', 'tcEgress']);
      for (const [index, frame] of wires.entries()) {
        await loaded.run(frame);
        for (const cut of truncations(frame, 14)) if (cut.length % 3 === index % 3) await loaded.run(cut);
      }
      for (const whole of [packet().vlan().ipv4().udp().payload(99), packet().ipv6().routing().udp().payload(99)])
        for (const part of fragments(whole, 32)) await loaded.run(part);
    },
    60_000,
  );

  test('tags are pushed and popped alike everywhere', async () => {
    const swap = stage({
      name: 'swap',
      hook: 'xdp',
      reads: { pushes: u8, pops: u8 },
      writes: { tags: u8, outer: u16, inner: u16, source: u32 },
      program(ctx) {
        const { pushes, pops } = ctx.meta;
        if (pops > 0 && !ctx.popVlan()) return ctx.exit('bare');
        if (pops > 1 && !ctx.popVlan()) return ctx.exit('bare');
        if (pushes > 0 && !ctx.pushVlan(0x2007)) return ctx.exit('full');
        if (pushes > 1 && !ctx.pushVlan(0x0008)) return ctx.exit('full');
        ctx.meta.tags = ctx.vlanTags;
        ctx.meta.outer = ctx.vlanTci;
        ctx.meta.inner = ctx.innerVlanTci;
        const ip = ctx.ipv4();
        if (ip) ctx.meta.source = ip.saddr;
        return ctx.pass();
      },
    });
    await using loaded = await everywhere(swap, { engine });
    for (const [count, frame] of tagged(packet()).slice(0, 3).entries())
      for (const pops of [0, 1, 2])
        for (const pushes of [0, 1, 2].filter((pushes) => count - pops + pushes <= 2))
          await loaded.run(frame.ipv4().udp().payload(9), { meta: { pushes, pops } });
  });

  test('ends move alike everywhere, and a copy needs an interface', async () => {
    const trim = stage({
      name: 'trim',
      hook: 'xdp',
      reads: { tail: u16 },
      program(ctx) {
        const tail = Math.min(ctx.meta.tail, 400) - 100;
        if (!ctx.adjustTail(tail)) return ctx.exit('fixed');
        const ip = ctx.ipv4();
        if (ip) ip.totalLength = ctx.length - ctx.offsetOf(ip);
        return ip ? ctx.pass() : ctx.next();
      },
    });
    await using loaded = await everywhere(trim, { engine });
    for (const tail of [0, 14, 57, 58, 59, 100, 101, 131, 400])
      for (const frame of [packet().ipv4().udp().payload(58), packet().arp()]) await loaded.run(frame, { meta: { tail } });
    const nowhere = stage({ name: 'nowhere', hook: 'tc', program: (ctx) => (ctx.clone(99_999) ? ctx.pass() : ctx.exit('gone')) });
    expect(simulate(nowhere, packet(), { skb: { interfaces: [] } })).toExit('gone');
    const copied = await run(nowhere, packet().payload(50), { engine });
    if (engine.kind === 'kernel') expect(copied).toExit('gone');
    // the userspace engine has no interfaces, and takes every index for one
    else expect(copied).toPass();
    expect(simulate(nowhere, packet()).skb?.clones).toHaveLength(1);
  });
}
