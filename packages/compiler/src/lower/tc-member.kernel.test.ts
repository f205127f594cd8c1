/** Redirects, copies and tunnels of TC on real links. */
import { type KernelInstance, kernel } from '@tailrace/kernel';
import { type AnyStage, arrayMap, decode, stage, struct, toMapSpec, u8, u32 } from '@tailrace/stage';
import { kernelAlone, packet, topology } from '@tailrace/testing';
import { describe, expect, test } from 'vitest';
import { compileStage } from '../compile.ts';
import { stageOf } from '../fixture.ts';
import { tcMemberSuite } from './tc-member.suite.ts';

tcMemberSuite(kernelAlone());

const load = async (subject: AnyStage, on: KernelInstance) => await on.loadProgram(compileStage(subject).program, new Map());

describe('links', () => {
  /** Two links into a box: what comes from `left` is led on by a stage there. */
  const network = () =>
    topology({
      hosts: { left: {}, box: {}, right: {} },
      links: [
        {
          ends: [
            { host: 'left', addresses: ['10.0.1.2/24'] },
            { host: 'box', interface: 'in', addresses: ['10.0.1.1/24'] },
          ],
        },
        {
          ends: [
            { host: 'box', interface: 'out', addresses: ['10.0.2.1/24'] },
            { host: 'right', addresses: ['10.0.2.2/24'] },
          ],
        },
      ],
    });
  const probe = packet().ethernet({ etherType: 0x88b5 }).payload(new Uint8Array(50).fill(0x5a));
  const isProbe = (bytes: Uint8Array): boolean => bytes[12] === 0x88 && bytes[13] === 0xb5;

  test('redirect, and a copy of it', async () => {
    await using net = await network();
    const { left, box, right } = net.hosts;
    await using at = await kernel({ interfaces: ['in'], netns: box.namespace }).open();
    const out = box.ifindex('out');
    const lead = stage({
      name: 'lead',
      hook: 'tcIngress',
      uses: { out },
      program(ctx, { out }) {
        const e = ctx.ethernet();
        if (!e) return ctx.drop();
        if (e.etherType !== 0x88b5) return ctx.next();
        e.etherType = 0x88b5;
        if (!ctx.clone(out)) return ctx.drop();
        const again = ctx.ethernet();
        if (!again) return ctx.drop();
        again.src = 0xee0000000001;
        return ctx.redirect(out);
      },
    });
    await at.attach(await load(lead, at), 'tcIngress');
    const received = right.frames('box');
    left.frames('box').send(probe);
    const [first, second] = [await received.receive({ where: isProbe }), await received.receive({ where: isProbe })];
    expect([first[6], second[6]]).toEqual([probe.bytes()[6], 0xee]);
    expect([...second.subarray(14)]).toEqual([...first.subarray(14)]);
  });

  test('redirects into another interface, to a neighbour and to a peer', async () => {
    await using net = await network();
    const { left, box, right } = net.hosts;
    const out = box.ifindex('out');
    const mac = (text: string): number[] => text.split(':').map((byte) => Number.parseInt(byte, 16));
    const datagram = packet()
      .ethernet({ dst: box.mac('in') })
      .ipv4({ saddr: '10.0.1.2', daddr: '10.0.2.2' })
      .udp({ dport: 9999 })
      .payload(8);
    const isOurs = (bytes: Uint8Array): boolean => bytes[12] === 8 && bytes[23] === 17 && bytes[36] === 0x27 && bytes[37] === 0x0f;
    const ways = {
      ingress: stageOf('return ctx.ipv4() ? ctx.redirectIngress(out) : ctx.next();', { hook: 'tcIngress', uses: { out } }),
      neighbour: stageOf('return ctx.ipv4() ? ctx.redirectNeigh(out) : ctx.next();', { hook: 'tcIngress', uses: { out } }),
      peer: stageOf('return ctx.ipv4() ? ctx.redirectPeer(out) : ctx.next();', { hook: 'tcIngress', uses: { out } }),
    };
    for (const way of ['ingress', 'neighbour', 'peer'] as const) {
      const at = await kernel({ interfaces: ['in'], netns: box.namespace }).open();
      await at.attach(await load(ways[way], at), 'tcIngress');
      const arrivals = way === 'ingress' ? box.frames('out') : right.frames('box');
      left.frames('box').send(datagram);
      const frame = await arrivals.receive({ where: isOurs });
      expect([...frame.subarray(0, 6)], way).toEqual(mac(way === 'neighbour' ? right.mac('box') : box.mac('in')));
      await at.close();
    }
  });

  test('a tunnel: the key that one end sets is the one that the other gets', async () => {
    await using net = await network();
    const { left, box } = net.hosts;
    for (const host of [left, box]) {
      host.route.createVxlan({ name: 'tun' });
      host.route.change('tun', { up: true });
    }
    const got = arrayMap({ name: 'got', value: struct({ id: u32, remote: u32, local: u32, tos: u8, ttl: u8 }), maxEntries: 1 });
    const wrap = stage({
      name: 'wrap',
      hook: 'tcEgress',
      program(ctx) {
        const key = { id: 0x123456, remote: [0x0a000101, 0, 0, 0], tos: 4, ttl: 9, extra: 0, label: 0, local: [0, 0, 0, 0] };
        return ctx.setTunnelKey(key) ? ctx.next() : ctx.drop();
      },
    });
    const unwrap = stage({
      name: 'unwrap',
      hook: 'tcIngress',
      uses: { got },
      program(ctx, { got }) {
        const e = ctx.ethernet();
        if (!e) return ctx.drop();
        if (e.etherType !== 0x88b5) return ctx.next();
        const key = ctx.tunnelKey();
        const to = got.lookup(0);
        if (!key || !to || ctx.tunnelKey('ipv6')) return ctx.drop();
        to.id = key.id;
        to.remote = key.remote[0] as number;
        to.local = key.local[0] as number;
        to.tos = key.tos;
        to.ttl = key.ttl;
        return ctx.next();
      },
    });
    await using outgoing = await kernel({ interfaces: ['tun'], netns: left.namespace }).open();
    await using incoming = await kernel({ interfaces: ['tun'], netns: box.namespace }).open();
    await outgoing.attach(await load(wrap, outgoing), 'tcEgress');
    const map = incoming.createMap(toMapSpec(got, 'got'));
    await incoming.attach(await incoming.loadProgram(compileStage(unwrap).program, new Map([['got', map]])), 'tcIngress');
    const received = box.frames('tun');
    left.frames('tun').send(probe);
    await received.receive({ where: isProbe });
    expect(decode(got.value, map.lookup(new Uint8Array(4)) ?? new Uint8Array(0))).toEqual({
      id: 0x123456,
      remote: 0x0a000102,
      local: 0x0a000101,
      tos: 4,
      ttl: 9,
    });
    map.close();
  });
});
