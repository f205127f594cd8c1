import { stage, type TunnelKey, u16, u32 } from '@tailrace/stage';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import './matchers.ts';
import { type Packet, packet } from './packet.ts';
import { onWire, simulate } from './simulation.ts';

describe('moves at every hook', () => {
  const push = stage({ name: 'push', hook: 'tc', program: (ctx) => (ctx.pushVlan(0x4003) ? ctx.pass() : ctx.drop()) });
  const pop = stage({ name: 'pop', hook: 'tc', program: (ctx) => (ctx.popVlan() ? ctx.pass() : ctx.drop()) });
  const inside = (p: Packet): Packet => p.ipv4().udp().payload(9);
  const frames = [packet(), packet().vlan({ id: 9 }), packet().vlan({ id: 8, tpid: 0x88a8 }).vlan({ id: 9 })];

  test.each(['xdp', 'tc', 'tcIngress', 'tcEgress'] as const)('%s: a tag is put in front, and taken off', (hook) => {
    for (const [count, frame] of frames.entries()) {
      const pushed = simulate(push, inside(frame), { hook });
      expect(pushed).toPass();
      const before = inside(frame).bytes();
      expect(onWire(pushed)).toEqual(Uint8Array.from([...before.subarray(0, 12), 0x81, 0, 0x40, 3, ...before.subarray(12)]));
      const popped = simulate(pop, inside(frame), { hook });
      if (count === 0) expect(popped).toDrop();
      else expect(onWire(popped)).toEqual(Uint8Array.from([...before.subarray(0, 12), ...before.subarray(16)]));
    }
  });

  test('at TC the outer tag is where the card takes it from', () => {
    expect(simulate(push, inside(packet()))).toMatchObject({ offloadedVlan: { tci: 0x4003 }, packet: inside(packet()).bytes() });
    const second = simulate(push, inside(packet()), { offloadedVlan: { tci: 7, tpid: 0x88a8 } });
    expect(second.offloadedVlan).toEqual({ tci: 0x4003 });
    expect(second).toEqualPacket(inside(packet().vlan({ id: 7, tpid: 0x88a8 })));
    const popped = simulate(pop, inside(packet().vlan({ id: 8, tpid: 0x88a8 }).vlan({ id: 9 })));
    expect(popped).toMatchObject({ offloadedVlan: { tci: 9, tpid: 0x8100 }, packet: inside(packet()).bytes() });
    expect(simulate(pop, inside(packet()), { offloadedVlan: { tci: 7 } })).not.toHaveProperty('offloadedVlan');
  });

  test('headers of before are stale', () => {
    const late = stage({
      name: 'late',
      hook: 'tc',
      program(ctx) {
        const ip = ctx.ipv4();
        if (!ip) return ctx.pass();
        return ctx.clone(3) && ip.ttl > 1 ? ctx.pass() : ctx.drop();
      },
    });
    expect(() => simulate(late, packet().ipv4().udp())).toThrow('a header from before ctx.clone(), which moved the packet');
  });

  test('room is made and taken behind Ethernet and behind IP', () => {
    const room = stage({
      name: 'room',
      hook: 'tc',
      reads: { delta: u16 },
      program(ctx) {
        const delta = ctx.meta.delta - 5000;
        return ctx.adjustRoom(delta, ctx.mark === 1 ? 'network' : 'ethernet') ? ctx.pass() : ctx.drop();
      },
    });
    const at = (frame: Packet, delta: number, mark = 0) => simulate(room, frame, { meta: { delta: delta + 5000 }, skb: { mark } });
    const before = packet().ipv4().udp().payload(30).bytes();
    const frame = packet().ipv4().udp().payload(30);
    expect(at(frame, 20).packet).toEqual(Uint8Array.from([...before.subarray(0, 14), ...new Uint8Array(20), ...before.subarray(14)]));
    expect(at(frame, 8, 1).packet).toEqual(Uint8Array.from([...before.subarray(0, 34), ...new Uint8Array(8), ...before.subarray(34)]));
    expect(at(frame, -8, 1).packet).toEqual(Uint8Array.from([...before.subarray(0, 34), ...before.subarray(42)]));
    // what is left must hold an IP header, a change is at most 4,095 bytes, and only IP has it
    expect(at(frame, -38)).toPass();
    expect(at(frame, -39)).toDrop();
    expect(at(frame, 0xfff)).toPass();
    expect(at(frame, 0x1000)).toDrop();
    expect(at(packet().arp(), 4)).toDrop();
    expect(at(packet().vlan().ipv4(), 4)).toDrop();
  });
});

describe('fields at TC', () => {
  const mark = stage({
    name: 'mark',
    hook: 'tc',
    writes: { seen: u32 },
    program(ctx) {
      ctx.meta.seen = ctx.segments + ctx.hash + ctx.ifindex + ctx.ingressIfindex + ctx.queue;
      ctx.mark += 0xffff_ffff;
      ctx.priority = ctx.mark;
      ctx.queue = 3;
      return ctx.redirectNeigh(ctx.ifindex);
    },
  });

  test('are given, and left', () => {
    const options = { skb: { mark: 5, gsoSegments: 40, hash: 1000, ifindex: 70_000, ingressIfindex: 300_000, queue: 2 } };
    const result = simulate(mark, packet(), options);
    expect(result.meta).toEqual({ seen: 40 + 1000 + 70_000 + 300_000 + 2 });
    expect(result.skb).toEqual({ mark: 4, priority: 4, queue: 3, clones: [] });
    expect(result).toRedirect(70_000);
    expect(result.redirect).toEqual({ ifindex: 70_000, how: 'neighbour' });
    expect(simulate(mark, packet()).meta).toEqual({ seen: 1 + 0 + 1 + 0 + 0 });
  });

  test('redirects of every kind; a peer only at ingress', () => {
    const inwards = stage({ name: 'inwards', hook: 'tc', program: (ctx) => ctx.redirectIngress(4) });
    expect(simulate(inwards, packet()).redirect).toEqual({ ifindex: 4, how: 'ingress' });
    const peer = stage({ name: 'peer', hook: 'tcIngress', program: (ctx) => ctx.redirectPeer(4) });
    expect(simulate(peer, packet()).redirect).toEqual({ ifindex: 4, how: 'peer' });
    expect(() => simulate(peer, packet(), { hook: 'tcEgress' })).toThrow('ctx.redirectPeer is not there at tcEgress');
  });

  test('clones are noted, with the packet as it was', () => {
    const twice = stage({
      name: 'twice',
      hook: 'tcEgress',
      program(ctx) {
        if (!ctx.clone(3)) return ctx.drop();
        const ip = ctx.ipv4();
        if (ip) ip.ttl = 9;
        return ctx.clone(4) ? ctx.pass() : ctx.exit('gone');
      },
    });
    const frame = packet().ipv4({ ttl: 64, checksum: 0 }).udp();
    const all = simulate(twice, frame);
    expect(all).toPass();
    expect(all.skb?.clones).toEqual([
      { ifindex: 3, packet: frame.bytes() },
      { ifindex: 4, packet: packet().ipv4({ ttl: 9, checksum: 0 }).udp().bytes() },
    ]);
    expect(simulate(twice, frame, { skb: { interfaces: [3] } })).toExit('gone');
  });

  test('tunnel metadata', () => {
    const relay = stage({
      name: 'relay',
      hook: 'tc',
      program(ctx) {
        const key = ctx.tunnelKey();
        if (!key) return ctx.exit('plain');
        key.id += 1;
        key.remote[0] = 0x0a000002;
        return ctx.setTunnelKey(key) ? ctx.pass() : ctx.drop();
      },
    });
    const key: TunnelKey = { id: 7, remote: [0x0a000001, 0, 0, 0], tos: 0, ttl: 64, extra: 0, label: 0, local: [0, 0, 0, 0] };
    expect(simulate(relay, packet())).toExit('plain');
    expect(simulate(relay, packet(), { skb: { tunnel: { key, family: 'ipv6' } } })).toExit('plain');
    const relayed = simulate(relay, packet(), { skb: { tunnel: { key } } });
    expect(relayed).toPass();
    expect(relayed.skb?.tunnel).toEqual({ key: { ...key, id: 8, remote: [0x0a000002, 0, 0, 0] }, family: 'ipv4' });
    expect(simulate(relay, packet(), { skb: { tunnel: { key: { ...key, label: 1 } } } })).toDrop();
  });

  test('a queue that is none is refused', () => {
    const far = stage({
      name: 'far',
      hook: 'tc',
      program(ctx) {
        ctx.queue = 0xffff;
        return ctx.pass();
      },
    });
    expect(() => simulate(far, packet())).toThrow('ctx.queue is set to 65535, expected 0..65534');
  });
});

describe('checksums kept in step', () => {
  const rewrite = stage({
    name: 'rewrite',
    hook: 'xdp',
    reads: { port: u16, address: u32 },
    program(ctx) {
      const ip = ctx.ipv4();
      const ip6 = ctx.ipv6();
      const tcp = ctx.tcp();
      const udp = ctx.udp();
      const icmp = ctx.icmp();
      const icmp6 = ctx.icmpv6();
      const { port, address } = ctx.meta;
      const far = { hi: 0x2001_0db8_ffff_0000n, lo: 9n };
      if (ip) {
        const before = ip.daddr;
        ip.checksum = ctx.checksumReplace(ip.checksum, before, address);
        ip.daddr = address;
        if (tcp) ctx.updateChecksum(tcp, before, address, 'pseudoHeader');
        if (udp) ctx.updateChecksum(udp, before, address, 'pseudoHeader');
        if (icmp) ctx.updateChecksum(icmp, before, address, 'pseudoHeader');
      }
      if (ip6) {
        const before = { hi: ip6.daddr.hi, lo: ip6.daddr.lo };
        ip6.daddr = far;
        if (tcp) ctx.updateChecksum(tcp, before, far, 'pseudoHeader');
        if (udp) ctx.updateChecksum(udp, before, far, 'pseudoHeader');
        if (icmp6) ctx.updateChecksum(icmp6, before, far, 'pseudoHeader');
      }
      if (tcp) {
        ctx.updateChecksum(tcp, tcp.sport, port);
        tcp.sport = port;
      }
      if (udp) {
        ctx.updateChecksum(udp, udp.sport, port);
        udp.sport = port;
      }
      if (icmp) {
        ctx.updateChecksum(icmp, icmp.id, port);
        icmp.id = port;
      }
      return ctx.pass();
    },
  });

  test('of every protocol, over both families', () => {
    const networks = [packet().ipv4(), packet().ipv6(), packet().vlan().ipv6().destination()];
    const frame = fc
      .record({
        network: fc.constantFrom(...networks),
        kind: fc.constantFrom('tcp' as const, 'udp' as const, 'icmp' as const),
        payload: fc.uint8Array({ maxLength: 20 }),
      })
      .map(({ network, kind, payload }) => {
        const overIpv4 = network === networks[0];
        return network[kind === 'icmp' && !overIpv4 ? 'icmpv6' : kind]().payload(payload);
      });
    fc.assert(
      fc.property(frame, fc.nat(0xffff), fc.nat(0xffff_ffff), (built, port, address) => {
        expect(simulate(rewrite, built, { meta: { port, address } })).toHaveValidChecksums();
      }),
    );
  });

  test('a UDP sum of 0 stays none, and one that becomes 0 is sent as all ones', () => {
    const meta = { port: 1, address: 2 };
    const none = simulate(rewrite, packet().ipv4().udp({ checksum: 0 }), { meta });
    expect([...none.packet.subarray(40, 42)]).toEqual([0, 0]);
    // a payload that makes the sum come out as 0
    const probe = simulate(rewrite, packet().ipv4().udp().payload(Uint8Array.of(0, 0)), { meta }).packet.subarray(40, 42);
    const ones = simulate(rewrite, packet().ipv4().udp().payload(probe), { meta });
    expect([...ones.packet.subarray(40, 42)]).toEqual([0xff, 0xff]);
  });

  test('only headers of layer 4 have one', () => {
    const wrong = stage({
      name: 'wrong',
      hook: 'xdp',
      program(ctx) {
        const ports = ctx.ports();
        if (ports) ctx.updateChecksum(ports as never, 1, 2);
        return ctx.pass();
      },
    });
    expect(() => simulate(wrong, packet().ipv4().udp())).toThrow('updateChecksum takes what ctx.tcp(), udp(), icmp() or icmpv6() gave');
  });
});
