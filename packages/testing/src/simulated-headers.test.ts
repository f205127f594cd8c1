import { stage, u8, u16, u32 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { fragments, truncations } from './mutation.ts';
import { type Packet, packet } from './packet.ts';
import { type SimulationOptions, simulate } from './simulation.ts';

/** Says which headers a packet has, as bits in the metadata, and what is known of it. */
const probe = stage({
  name: 'probe',
  hook: 'tc',
  writes: { found: u32, protocol: u8, fragment: u8, tags: u8, outer: u16, inner: u16 },
  program(ctx) {
    ctx.meta.found =
      (ctx.arp() ? 1 : 0) |
      (ctx.ipv4() ? 2 : 0) |
      (ctx.ipv6() ? 4 : 0) |
      (ctx.ipv6Fragment() ? 8 : 0) |
      (ctx.tcp() ? 16 : 0) |
      (ctx.udp() ? 32 : 0) |
      (ctx.icmp() ? 64 : 0) |
      (ctx.icmpv6() ? 128 : 0) |
      (ctx.ports() ? 256 : 0) |
      (ctx.gre() ? 512 : 0) |
      (ctx.vxlan() ? 1024 : 0) |
      (ctx.gue() ? 2048 : 0) |
      (ctx.vxlan(8472) ? 4096 : 0);
    ctx.meta.protocol = ctx.protocol;
    ctx.meta.fragment = ctx.fragment ? 1 : 0;
    ctx.meta.tags = ctx.vlanTags;
    ctx.meta.outer = ctx.vlanTci;
    ctx.meta.inner = ctx.innerVlanTci;
    return ctx.next();
  },
});
const names = ['arp', 'ipv4', 'ipv6', 'ipv6Fragment', 'tcp', 'udp', 'icmp', 'icmpv6', 'ports', 'gre', 'vxlan', 'gue', 'vxlan(8472)'];
const look = (frame: Packet | Uint8Array, options?: SimulationOptions) => {
  const { found, protocol, fragment, tags, outer, inner } = simulate(probe, frame, options).meta;
  const headers = names.filter((_, bit) => ((Number(found) >> bit) & 1) === 1).join(' ');
  return { headers, protocol, fragment: fragment === 1, tags: [outer, inner].slice(0, Number(tags)) };
};

/** An IPv6 packet with these extension headers, UDP and 40 bytes. */
const extended = (...headers: readonly ('hopByHop' | 'routing' | 'destination' | 'fragment')[]): Packet =>
  headers
    .reduce((p, header) => p[header](), packet().ipv6())
    .udp()
    .payload(40);
const six = (count: number): Packet => extended(...Array.from({ length: count }, () => 'destination' as const));

describe('layers', () => {
  test.each<[string, Packet, string, number]>([
    ['ARP', packet().arp(), 'arp', 255],
    ['ARP for other addresses', packet().arp({ hardwareLength: 8 }), '', 255],
    ['ARP for another protocol', packet().arp({ protocolType: 0x86dd }), '', 255],
    ['a bare frame', packet().payload(50), '', 255],
    ['every extension header', extended('hopByHop', 'routing', 'destination', 'fragment'), 'ipv6 ipv6Fragment udp ports', 17],
    ['six of them', six(6), 'ipv6 udp ports', 17],
    ['seven of them', six(7), 'ipv6', 255],
    ['two fragment headers', extended('fragment', 'destination', 'fragment'), 'ipv6 ipv6Fragment', 255],
    ['ICMPv6 behind hop-by-hop options', packet().ipv6().hopByHop().icmpv6(), 'ipv6 icmpv6', 58],
    ['no next header', packet().ipv6().destination(), 'ipv6', 59],
    ['an extension header beyond the payload', packet().ipv6({ payloadLength: 7 }).hopByHop().udp(), 'ipv6', 255],
    ['one that claims more than there is', packet().ipv6().hopByHop({ extensionLength: 9 }).udp(), 'ipv6', 255],
    ['a payload length that ends in UDP', packet().ipv6({ payloadLength: 15 }).hopByHop().udp(), 'ipv6 ports', 17],
    ['GRE', packet().ipv4().gre().ipv4().tcp(), 'ipv4 gre', 47],
    ['GRE over IPv6 behind options', packet().ipv6().destination().gre().ipv6(), 'ipv6 gre', 47],
    ['GRE that the total length cannot hold', packet().ipv4({ totalLength: 23 }).gre(), 'ipv4', 47],
    ['VXLAN', packet().ipv4().udp().vxlan().ethernet(), 'ipv4 udp ports vxlan', 17],
    ['VXLAN at another port', packet().ipv6().udp({ dport: 8472 }).vxlan().ethernet(), 'ipv6 udp ports vxlan(8472)', 17],
    ['VXLAN that UDP cannot hold', packet().ipv4().udp({ length: 15 }).vxlan(), 'ipv4 udp ports', 17],
    ['VXLAN that IP cannot hold', packet().ipv4({ totalLength: 35 }).udp().vxlan(), 'ipv4 udp ports', 17],
    ['GUE', packet().ipv4().udp().gue().ipv4(), 'ipv4 udp ports gue', 17],
    ['IP in IP: the outer one', packet().ipv6().ipv4().tcp(), 'ipv6', 4],
  ])('%s', (_name, frame, headers, protocol) => {
    expect(look(frame)).toMatchObject({ headers, protocol, fragment: false });
  });

  test('are not found where a frame ends', () => {
    const lengths = (frame: Packet): string[] => {
      const seen: string[] = [];
      for (const cut of truncations(frame)) {
        const { headers, protocol } = look(cut);
        const line = `${protocol} ${headers}`.trim();
        if (line !== seen.at(-1)?.replace(/^\d+: /, '')) seen.push(`${cut.length}: ${line}`);
      }
      return seen;
    };
    const options = new Uint8Array(14);
    expect(lengths(packet().vlan().ipv6().destination({ options }).udp().vxlan().payload(1))).toEqual([
      '0: 255',
      '58: 255 ipv6',
      '74: 17 ipv6',
      '78: 17 ipv6 ports',
      '82: 17 ipv6 udp ports',
      '90: 17 ipv6 udp ports vxlan',
    ]);
    expect(lengths(packet().arp().padTo(50))).toEqual(['0: 255', '42: 255 arp']);
  });
});

describe('fragments', () => {
  test('of both families: the first has layer 4, all say that they are pieces', () => {
    const four = fragments(packet().vlan().ipv4().udp().payload(100), 48);
    expect(four.map((part) => look(part))).toMatchObject([
      { headers: 'ipv4 udp ports', protocol: 17, fragment: true },
      { headers: 'ipv4', protocol: 17, fragment: true },
      { headers: 'ipv4', protocol: 17, fragment: true },
    ]);
    const parts = fragments(packet().ipv6().routing().destination().udp().payload(100), 64);
    expect(parts.map((part) => look(part))).toMatchObject([
      { headers: 'ipv6 ipv6Fragment udp ports', protocol: 17, fragment: true },
      { headers: 'ipv6 ipv6Fragment', protocol: 60, fragment: true },
    ]);
  });

  test('a whole packet with a fragment header is none', () => {
    expect(look(extended('fragment'))).toMatchObject({ headers: 'ipv6 ipv6Fragment udp ports', fragment: false });
    expect(look(packet().ipv6().fragment({ moreFragments: true }).udp())).toMatchObject({
      fragment: true,
      headers: 'ipv6 ipv6Fragment udp ports',
    });
  });
});

describe('VLAN tags', () => {
  const base = packet().ipv4().tcp().bytes();
  const tagged = (...tcis: readonly number[]): Packet =>
    tcis
      .reduce((p, tci) => p.vlan({ id: tci & 0xfff, priority: tci >> 13 }), packet())
      .ipv4()
      .tcp();

  test('at most two are looked behind, wherever they lie', () => {
    expect(look(tagged(0x2005))).toEqual({ headers: 'ipv4 tcp ports', protocol: 6, fragment: false, tags: [0x2005] });
    expect(look(tagged(1, 2)).tags).toEqual([1, 2]);
    expect(look(packet().vlan({ tpid: 0x88a8 }).vlan().ipv6().udp())).toMatchObject({ headers: 'ipv6 udp ports', tags: [1, 1] });
    expect(look(tagged(1, 2, 3))).toMatchObject({ headers: '', protocol: 255, tags: [1, 2] });
    expect(look(base, { offloadedVlan: { tci: 9 } })).toMatchObject({ headers: 'ipv4 tcp ports', tags: [9] });
    expect(look(tagged(2), { offloadedVlan: { tci: 9 } })).toMatchObject({ headers: 'ipv4 tcp ports', tags: [9, 2] });
    expect(look(tagged(2, 3), { offloadedVlan: { tci: 9 } })).toMatchObject({ headers: '', tags: [9, 2] });
  });

  test('half a tag is none', () => {
    expect(look(tagged(5).bytes().subarray(0, 17)).tags).toEqual([]);
    expect(look(tagged(5).bytes().subarray(0, 18)).tags).toEqual([5]);
  });
});
