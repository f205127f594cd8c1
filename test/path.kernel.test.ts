/** Where packets go in the balancer: the path of any packet is a way through the chain as it is described, to its verdict. */
import { givenNextHops, l4lb, NextHops } from '@tailrace/functions/l4lb';
import { fragments, type Packet, packet } from '@tailrace/testing';
import fc from 'fast-check';
import { type ChainDescription, createNamespace, kernel, override, type PathStep, pipeline, Rtnetlink, type RunResult } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ToldHealth } from './balanced-network.ts';

const [VIP, VIP6, SOURCE] = ['198.51.100.1', '2001:db8::1', '10.0.0.1'];
const reals = [{ address: '10.0.1.1' }, { address: '10.0.1.2' }];
const nextHops = override(NextHops, givenNextHops({ '10.0.1.1': '02:00:00:00:00:01', '10.0.1.2': '02:00:00:00:00:02' }));
const vips = [
  { address: VIP, port: 80, protocol: 'tcp', reals },
  { address: VIP, port: 53, protocol: 'udp', reals },
] as const;
const vips6 = [{ address: VIP6, port: 80, protocol: 'tcp', reals }] as const;

/** Test runs of attached programs do not wait for the kernel's readers. */
const namespace = createNamespace();
beforeAll(() => {
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'near' }, { name: 'far' });
});
afterAll(() => namespace.close());

/** `vip next, pick next, encap tx`. */
const shown = (path: readonly PathStep[] | undefined): string | undefined =>
  path?.map(({ stage, verdict, exit }) => `${stage.slice('l4lb.'.length)} ${exit ?? verdict}`).join(', ');

/** Throws where a path is no way through the chain, or another verdict lies behind it. */
function checkWay({ first, stages }: ChainDescription, { path, verdict }: RunResult): void {
  let at: { readonly to?: string; readonly verdict?: string } = { to: first };
  for (const { stage, verdict: left, exit, missed } of path ?? []) {
    expect([stage, missed]).toEqual([at.to, undefined]);
    const { edges } = stages.find(({ name }) => name === stage) ?? { edges: [] };
    at = edges.find(({ kind, label }) => kind === left && label === (exit ?? 'next')) ?? { verdict: left };
  }
  expect([path === undefined, at.to, at.verdict]).toEqual([false, undefined, verdict]);
}

const ports = fc.constantFrom(53, 80, 81, 1_024, 33_000);
const ipv4 = fc.record({
  saddr: fc.constantFrom('10.0.0.2', '203.0.113.7', '10.0.1.1', VIP),
  daddr: fc.constantFrom(VIP, VIP, VIP, SOURCE, '10.0.0.9'),
  ttl: fc.constantFrom(1, 64),
  dontFragment: fc.boolean(),
});
const ipv6 = fc.record({ saddr: fc.constantFrom('2001:db8::2', VIP6), daddr: fc.constantFrom(VIP6, VIP6, '2001:db8::9') });
const over = fc.oneof(
  { weight: 3, arbitrary: ipv4.map((fields) => packet().ipv4(fields)) },
  { weight: 1, arbitrary: ipv4.map((fields) => packet().vlan({ id: 7 }).ipv4(fields)) },
  { weight: 2, arbitrary: ipv6.map((fields) => packet().ipv6(fields)) },
);
const flags = fc.record({ syn: fc.boolean(), ack: fc.boolean(), rst: fc.boolean() });
const whole: fc.Arbitrary<Packet> = fc
  .tuple(over, fc.constantFrom('tcp', 'udp', 'icmp'), ports, ports, flags, fc.constantFrom(0, 8, 64, 1_445, 1_480))
  .map(([ip, protocol, sport, dport, tcp, length]) => {
    if (protocol === 'icmp') return ip.icmp().payload(length);
    return (protocol === 'tcp' ? ip.tcp({ sport, dport, ...tcp }) : ip.udp({ sport, dport })).payload(length);
  });
/** The kernel's test runs take no frame without a whole Ethernet header. */
const SHORTEST = 14;
/** Whole packets, cut ones, first and later fragments, and ones with bytes changed. */
const frames: fc.Arbitrary<Uint8Array> = fc.oneof(
  { weight: 4, arbitrary: whole.map((frame) => frame.bytes()) },
  {
    weight: 1,
    arbitrary: fc.tuple(whole, fc.nat()).map(([frame, n]) => {
      const bytes = frame.bytes();
      return bytes.slice(0, SHORTEST + (n % Math.max(1, bytes.length - SHORTEST)));
    }),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(ipv4, fc.nat(2)).map(([fields, n]) => {
      const cut = fragments(
        packet()
          .ipv4({ ...fields, dontFragment: false })
          .udp({ dport: 53 })
          .payload(64),
        24,
      );
      return cut[n] as Uint8Array;
    }),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(whole, fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { minLength: 1, maxLength: 4 })).map(([frame, changes]) => {
      const bytes = frame.bytes();
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      return bytes;
    }),
  },
);

test('through the balancer, packets take ways that are described, to the verdict they get', async () => {
  const balancer = l4lb({ source: SOURCE, vips: [...vips, ...vips6] }).on({ notVip: 'next' });
  await using running = await pipeline('edge', { xdp: [balancer] }).run(kernel({ interfaces: ['near'], netns: namespace }), {
    services: [new ToldHealth().service, nextHops],
  });
  const way = async (frame: Packet | Uint8Array) => {
    const { verdict, path } = await running.run(frame instanceof Uint8Array ? frame : frame.bytes());
    return `${verdict}: ${shown(path)}`;
  };
  const to = (fields: object = {}) => packet().ipv4({ saddr: '10.0.0.2', daddr: VIP, dontFragment: true, ...fields });
  expect(await way(to().tcp({ dport: 80, syn: true }))).toBe('tx: vip next, pick next, encap tx');
  expect(await way(to().tcp({ dport: 80, ack: true }).payload(1_460))).toBe('tx: vip next, pick next, encap tooBig, tooBig tx');
  expect(await way(to({ daddr: '10.0.0.9' }).tcp({ dport: 80 }))).toBe('pass: vip notVip');
  expect(await way(packet().arp())).toBe('pass: vip notVip');
  const [, later] = fragments(to({ dontFragment: false }).udp({ dport: 53 }).payload(64), 24);
  expect(await way(later as Uint8Array)).toBe('drop: vip fragment');

  const seen = new Set<string>();
  const { xdp } = running.describe().chains;
  await fc.assert(
    fc.asyncProperty(frames, async (frame) => {
      const result = await running.run(frame);
      checkWay(xdp, result);
      seen.add(`${result.verdict}: ${shown(result.path)}`);
    }),
    { numRuns: 500 },
  );
  expect(seen.size).toBeGreaterThanOrEqual(8);

  const controller = running.controller(balancer);
  for (const { address } of reals) controller.removeReal(vips[0], address);
  expect(await way(to().tcp({ dport: 80, sport: 7, syn: true }))).toBe('drop: vip next, pick noReal');
});
