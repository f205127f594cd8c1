/** `ctx.updateChecksum` at every hook: what the simulation says, and what the sum over the whole packet says. */
import type { Engine } from '@tailrace/bpf';
import { type AnyStage, stage } from '@tailrace/stage';
import { packet, runEverywhere } from '@tailrace/testing';
import { expect, test } from 'vitest';

/** Addresses and ports of a flow, rewritten as NAT does it. */
const translate4 = (saddr: number, sport: number): AnyStage =>
  stage({
    name: 'translate4',
    hook: 'xdp',
    uses: { saddr, sport },
    program(ctx, { saddr, sport }) {
      const ip = ctx.ipv4();
      if (!ip) return ctx.drop();
      const tcp = ctx.tcp();
      if (tcp) {
        ctx.updateChecksum(tcp, ip.saddr, saddr, 'pseudoHeader');
        ctx.updateChecksum(tcp, tcp.sport, sport);
        tcp.sport = sport;
      } else {
        const udp = ctx.udp();
        if (!udp) return ctx.drop();
        ctx.updateChecksum(udp, ip.saddr, saddr, 'pseudoHeader');
        ctx.updateChecksum(udp, udp.sport, sport);
        udp.sport = sport;
      }
      ip.checksum = ctx.checksumReplace(ip.checksum, ip.saddr, saddr);
      ip.saddr = saddr;
      return ctx.pass();
    },
  });
const translate6 = (hi: bigint, lo: bigint): AnyStage =>
  stage({
    name: 'translate6',
    hook: 'xdp',
    uses: { hi, lo },
    program(ctx, { hi, lo }) {
      const ip = ctx.ipv6();
      if (!ip) return ctx.drop();
      const tcp = ctx.tcp();
      const icmp = ctx.icmpv6();
      if (tcp) ctx.updateChecksum(tcp, ip.daddr, { hi, lo }, 'pseudoHeader');
      else if (icmp) ctx.updateChecksum(icmp, ip.daddr, { hi, lo }, 'pseudoHeader');
      else {
        const udp = ctx.udp();
        if (!udp) return ctx.drop();
        ctx.updateChecksum(udp, ip.daddr, { hi, lo }, 'pseudoHeader');
      }
      ip.daddr.hi = hi;
      ip.daddr.lo = lo;
      return ctx.pass();
    },
  });

const addresses = [0xc0a8_0107, 0xffff_ffff, 0, 0x0a00_0009];

/** The cases, on an engine. */
export function updateChecksumSuite(engine: Engine): void {
  const every = { engine, hooks: ['xdp', 'tcIngress', 'tcEgress'] } as const;

  test('addresses and ports of IPv4', async () => {
    for (const [index, address] of addresses.entries()) {
      const [from, to] = [40_000 + index, [1_024, 65_535, 1, 40_000][index] ?? 0];
      const before = (sport: number, saddr: string | number) => packet().ipv4({ saddr, daddr: '10.0.0.2' }).tcp({ sport, dport: 80 });
      const datagram = (sport: number, saddr: string | number) => packet().ipv4({ saddr, daddr: '10.0.0.2' }).udp({ sport, dport: 53 });
      const pairs = [
        [before(from, '10.0.0.9').payload('some data'), before(to, address).payload('some data')],
        [datagram(from, '10.0.0.9').payload('odd'), datagram(to, address).payload('odd')],
      ] as const;
      const results = await runEverywhere(
        translate4(address, to),
        pairs.map(([frame]) => frame),
        every,
      );
      // the builder sums over the whole packet
      expect(results.map((result) => result.packet)).toEqual(pairs.map(([, frame]) => frame.bytes()));
    }
  });

  test('a UDP checksum of 0 stays, and none becomes 0', async () => {
    const frame = (saddr: string, sport: number, checksum?: number) =>
      packet()
        .ipv4({ saddr, daddr: '10.0.0.2' })
        .udp({ sport, dport: 53, ...(checksum === undefined ? {} : { checksum }) });
    const [none] = await runEverywhere(translate4(0x0a00_0001, 7), [frame('10.0.0.9', 40_000, 0)], every);
    expect(none?.packet).toEqual(frame('10.0.0.1', 7, 0).bytes());
    // a port that makes the sum 0
    const sum = (sport: number): number => new DataView(frame('10.0.0.1', sport).bytes().buffer).getUint16(40);
    const port = Array.from({ length: 65_535 }, (_, i) => i + 1).find((sport) => sum(sport) === 0xffff);
    const [mangled] = await runEverywhere(translate4(0x0a00_0001, port ?? 0), [frame('10.0.0.9', 40_000)], every);
    expect(new DataView((mangled?.packet ?? new Uint8Array(64)).slice().buffer).getUint16(40)).toBe(0xffff);
  });

  test('addresses of IPv6', async () => {
    const halves = { hi: 0x2001_0db8_0000_0001n, lo: 0xffff_ffff_ffff_fffen };
    const text = '2001:db8:0:1:ffff:ffff:ffff:fffe';
    const to = (daddr: string) => packet().ipv6({ saddr: '2001:db8::1', daddr });
    const shapes = (daddr: string) => [
      to(daddr).tcp({ sport: 40_000, dport: 80 }).payload('some data'),
      to(daddr).udp({ sport: 40_000, dport: 80 }).payload('odd'),
      to(daddr).icmpv6({ type: 128 }).payload('ping'),
    ];
    const results = await runEverywhere(translate6(halves.hi, halves.lo), shapes('2001:db8::2'), every);
    expect(results.map((result) => result.packet)).toEqual(shapes(text).map((frame) => frame.bytes()));
  });

  test('headers that were got before stay usable at TC', async () => {
    const again = stage({
      name: 'again',
      hook: 'xdp',
      program(ctx) {
        const ip = ctx.ipv4();
        const tcp = ctx.tcp();
        if (!ip || !tcp) return ctx.drop();
        ctx.updateChecksum(tcp, tcp.dport, 8_080);
        tcp.dport = 8_080;
        return ip.ttl === 64 && tcp.dport === 8_080 ? ctx.pass() : ctx.drop();
      },
    });
    const frame = (dport: number) => packet().ipv4({ ttl: 64 }).tcp({ sport: 40_000, dport });
    const [result] = await runEverywhere(again, [frame(80)], every);
    expect([result?.verdict, result?.packet]).toEqual(['pass', frame(8_080).bytes()]);
  });
}
