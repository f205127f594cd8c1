/** All variants of the balancer do the same for packets, and the contests measure the paths that they name. */
import { fragments, packet, truncations } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { type Balancer, loadBalancer, VIP } from './balancer.ts';
import { clangMissing } from './clang.ts';
import { contents } from './contents.ts';
import { openMachine } from './contest.ts';
import { ALWAYS_NEW, restore } from './restore.ts';
import type { Variant } from './row.ts';
import { flows } from './suites/l4lb.ts';

const DROP = 1;
const XDP_TX = 3;
const variants: readonly Variant[] = clangMissing() === null ? ['tailrace', 'c-same', 'c-lru'] : ['tailrace'];

const from = (saddr: string) => packet().ipv4({ saddr, daddr: VIP });
const tcp = from('192.0.2.1').tcp({ sport: 1234, dport: 80, ack: true }).payload(20);
const syn = from('192.0.2.2').tcp({ sport: 4321, dport: 80, syn: true });
const udp = from('192.0.2.3').udp({ sport: 7, dport: 53 }).payload(40);
const options = packet()
  .ipv4({ saddr: '192.0.2.4', daddr: VIP, options: new Uint8Array([1, 1, 1, 0]), tos: 0x28 })
  .tcp({ dport: 80 });

const corpus: readonly Uint8Array[] = [
  ...[tcp, syn, udp, options].flatMap((frame) => [frame.bytes(), frame.bytes(), ...truncations(frame, 14)]),
  ...Array.from({ length: 50 }, (_, index) =>
    from(`192.0.2.${index}`)
      .tcp({ sport: index * 100, dport: 80 })
      .bytes(),
  ),
  ...fragments(from('192.0.2.5').udp({ dport: 53 }).payload(64), 24),
  from('192.0.2.6').tcp({ dport: 81 }).bytes(),
  from('192.0.2.6').icmp().bytes(),
  packet().ipv4().tcp({ dport: 80 }).bytes(),
  packet().ipv6().tcp({ dport: 80 }).bytes(),
  ...[0, 20, 24, 39, 40, 41, 1500].map((totalLength) => packet().ipv4({ daddr: VIP, totalLength }).tcp({ dport: 80 }).payload(8).bytes()),
];

describe.skipIf(clangMissing() !== null)('the same balancer in C', () => {
  it('agrees on verdicts, packets, flows and counters', async () => {
    await using first = await openMachine();
    await using second = await openMachine();
    const [ours, theirs] = [await loadBalancer(first, 'tailrace'), await loadBalancer(second, 'c-same')];
    for (const frame of corpus) {
      const { returnValue, packet } = await ours.entry.testRun({ packet: frame });
      expect({ frame, ...pick(await theirs.entry.testRun({ packet: frame })) }).toEqual({ frame, returnValue, packet });
    }
    expect(ours.forwarded()).toBeGreaterThan(50n);
    expect(theirs.forwarded()).toBe(ours.forwarded());
    // The level of each CPU is left out: nothing keeps a side on one.
    for (const name of ['conns_far', 'vips', 'reals', 'ring', 'vip_traffic', 'real_traffic'])
      expect([name, held(theirs, name)]).toEqual([name, held(ours, name)]);
  });
});

describe.each(variants)('%s', (variant) => {
  it('sends packets in IP in IP', async () => {
    await using instance = await openMachine();
    const balancer = await loadBalancer(instance, variant);
    const { returnValue, packet: sent } = await balancer.entry.testRun({ packet: tcp.bytes() });
    expect(returnValue).toBe(XDP_TX);
    const real = sent.subarray(30, 34);
    expect([...real.subarray(0, 3)]).toEqual([10, 0, 1]);
    const outer = packet().ethernet({ dst: `02:00:00:00:01:${(real[3] ?? 0).toString(16).padStart(2, '0')}`, src: '02:00:00:00:00:02' });
    const header = { saddr: '10.0.0.1', daddr: [...real].join('.'), ttl: 64, id: 0, dontFragment: true, protocol: 4 };
    expect(sent).toEqual(outer.ipv4(header).payload(tcp.bytes().subarray(14)).bytes());
    expect(balancer.forwarded()).toBe(1n);
  });

  it('is measured on the paths that its cases name', async () => {
    await using instance = await openMachine();
    const balancer = await loadBalancer(instance, variant);
    const cases = [];
    for (const [name, restoration] of Object.entries(flows)) {
      const isNew = restoration.flows === ALWAYS_NEW;
      const { entry, changed } = await restore(instance, balancer.entry, {
        ...restoration,
        flows: isNew ? ALWAYS_NEW : Math.min(restoration.flows, 512),
      });
      const before = balancer.forwarded();
      expect([name, await entry.testRun({ packet: restoration.packet, repeat: 2_000 })]).toMatchObject([name, { returnValue: XDP_TX }]);
      expect(balancer.forwarded() - before).toBeGreaterThanOrEqual(2_000n);
      expect(changed()).toBeGreaterThanOrEqual(1_999n);
      cases.push({ name, isNew, entry, packet: restoration.packet });
    }
    balancer.forgetRings();
    for (const { name, isNew, entry, packet } of cases) {
      const before = balancer.forwarded();
      expect([name, await entry.testRun({ packet, repeat: 2_000 })]).toMatchObject([name, { returnValue: isNew ? DROP : XDP_TX }]);
      expect([name, balancer.forwarded() - before >= 2_000n]).toEqual([name, !isNew]);
    }
  });
});

function pick({ returnValue, packet }: { readonly returnValue: number; readonly packet: Uint8Array }) {
  return { returnValue, packet };
}

function held(balancer: Balancer, name: string): unknown {
  const map = balancer.maps.get(name);
  return map && contents(map);
}
