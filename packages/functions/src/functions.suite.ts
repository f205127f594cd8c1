/** Functions as they are imported: with their controllers, in pipelines on an engine, packet by packet. */
import '@tailrace/testing/matchers';
import type { Engine } from '@tailrace/bpf';
import { type PipelineOptions, pipeline } from '@tailrace/pipeline';
import { override } from '@tailrace/stage';
import { fragments, type Packet, packet, parse, run } from '@tailrace/testing';
import { of } from 'rxjs';
import { expect, test } from 'vitest';
import { acl } from './acl/index.ts';
import { decap } from './decap/index.ts';
import { HealthChecker, type L4lbNatOptions, l4lb, NextHops, noNextHops } from './l4lb/index.ts';
import { mark, putStage } from './mark/index.ts';
import { monitor } from './monitor/index.ts';
import { policy } from './policy/index.ts';

const VIP = '198.51.100.1';
const CLIENT = '192.0.2.1';
const SOURCE = '10.0.0.1';
const REAL = '10.1.0.1';
const HOP = '02:00:00:00:00:99';
/** Nobody is asked: reals are well, and their next hops are what the options say. */
const services = [override(HealthChecker, { watch: () => of(true) }), override(NextHops, noNextHops)];

/** `10.0.0.1:2000 > 10.1.0.1:8080`, of the outermost IP header. */
function ends(frame: Uint8Array): string {
  const layers = parse(frame);
  const network = layers.find(({ kind }) => kind === 'ipv4')?.fields;
  const transport = layers.find(({ kind }) => kind === 'tcp' || kind === 'udp')?.fields;
  return `${network?.saddr}:${transport?.sport} > ${network?.daddr}:${transport?.dport}`;
}

/** The cases, on an engine, every stage a program of its own or fused. */
export function functionsSuite(engine: Engine, built: PipelineOptions = {}): void {
  test('acl: what is blocked while it runs', async () => {
    const filter = acl({ blocked: ['203.0.113.0/24', '2001:db8:bad::/48'] });
    await using running = await pipeline('edge', { xdp: [filter] }, built).run(engine);
    const verdictOf = async (frame: Packet) => (await running.run(frame.bytes())).verdict;
    const four = (saddr: string) => packet().ipv4({ saddr }).tcp();
    const six = (saddr: string) => packet().ipv6({ saddr }).udp();
    expect([await verdictOf(four('203.0.113.7')), await verdictOf(four('203.0.114.7'))]).toEqual(['drop', 'pass']);
    expect([await verdictOf(six('2001:db8:bad::7')), await verdictOf(six('2001:db8:bae::7'))]).toEqual(['drop', 'pass']);
    const controller = running.controller(filter);
    controller.block('203.0.114.7');
    expect(await verdictOf(four('203.0.114.7'))).toBe('drop');
    controller.unblock('203.0.113.0/24');
    expect(await verdictOf(four('203.0.113.7'))).toBe('pass');
    expect(controller.hits().map(({ prefix, packets }) => [prefix, packets])).toEqual([
      ['2001:db8:bad::/48', 1n],
      ['203.0.114.7/32', 1n],
    ]);
    expect(running.stats().xdp['acl.acl']).toMatchObject({ packets: 6n, next: 3n, verdicts: { drop: 3n } });
  });

  test('mark: found at XDP, told to what TC ingress runs', async () => {
    const marker = mark({ marks: { '192.0.2.0/24': 7 } });
    await using running = await pipeline('edge', { xdp: [marker], tcIngress: [marker] }, built).run(engine);
    const found = await running.run(packet().ipv4({ saddr: CLIENT }).udp().bytes());
    expect([found.verdict, found.path]).toEqual(['pass', [{ stage: 'mark.find', verdict: 'next' }]]);
    expect(running.describe().crossing).toEqual(['mark']);
    const put = await running.run(packet().ipv4().udp().bytes(), { hook: 'tcIngress' });
    expect([put.verdict, put.path]).toEqual(['pass', [{ stage: 'mark.put', verdict: 'next' }]]);
    // test runs bring nothing along from XDP
    expect(running.stats().roots.tcIngress.withoutMetadata).toBe(1n);
    for (const [mark, expected] of [
      [7, 7],
      [0, 3],
    ] as const)
      expect((await run(putStage, packet(), { engine, meta: { mark }, skb: { mark: 3 } })).skb?.mark).toBe(expected);
  });

  test('l4lb and decap: into the tunnel and out of it', async () => {
    const web = { address: VIP, port: 80, protocol: 'tcp' } as const;
    const balancer = l4lb({
      source: SOURCE,
      vips: [{ ...web, reals: [{ address: REAL, nextHop: HOP }] }],
      maxVips: 4,
      maxReals: 15,
      flows: 1_024,
      flowsPerCpu: 128,
      shards: 2,
    }).on({ notVip: 'next' });
    const inner = decap({ addresses: [REAL], sources: [SOURCE] });
    await using running = await pipeline('edge', { xdp: [balancer] }, built).run(engine, { services });
    await using real = await pipeline('real', { xdp: [inner] }, built).run(engine);
    const request = packet().ipv4({ saddr: CLIENT, daddr: VIP }).tcp({ sport: 1234, dport: 80, syn: true }).payload('hello');
    const sent = await running.run(request.bytes());
    expect(sent.verdict).toBe('tx');
    expect(parse(sent.packet).map(({ kind }) => kind)).toEqual(['ethernet', 'ipv4', 'ipv4', 'tcp', 'payload']);
    expect(sent.packet).toHaveValidChecksums();
    expect(sent.path?.map(({ stage }) => stage)).toEqual(['l4lb.vip', 'l4lb.pick', 'l4lb.encap']);
    const arrived = await real.run(sent.packet);
    expect([arrived.verdict, Buffer.from(arrived.packet.subarray(14)).toString('hex')]).toEqual([
      'pass',
      Buffer.from(request.bytes().subarray(14)).toString('hex'),
    ]);
    expect((await running.run(packet().ipv4({ saddr: CLIENT, daddr: '198.51.100.9' }).tcp().bytes())).verdict).toBe('pass');
    for (const piece of fragments(packet().ipv4({ saddr: CLIENT, daddr: VIP }).udp().payload(100), 40))
      expect((await running.run(piece)).verdict).toBe('drop');
    const [vip] = running.controller(balancer).traffic();
    expect(vip?.reals.map(({ packets }) => packets)).toEqual([1n]);
  });

  test('l4lb with full NAT: requests go out from a port of its own, and answers come back from the vip', async () => {
    const options: L4lbNatOptions = {
      mode: 'nat',
      source: SOURCE,
      vips: [
        { address: VIP, port: 80, protocol: 'tcp', realPort: 8080, reals: [{ address: REAL, nextHop: HOP }] },
        { address: VIP, port: 53, protocol: 'udp', realPort: 5353, reals: [{ address: REAL, nextHop: HOP }] },
      ],
      maxVips: 4,
      maxReals: 15,
      flows: 1_024,
      flowsPerCpu: 128,
      shards: 2,
    };
    const balancer = l4lb(options).on({ notVip: 'next' });
    const chains = pipeline('edge', { xdp: [balancer], tcIngress: [balancer], tcEgress: [balancer] }, built);
    await using running = await chains.run(engine, { services });
    for (const [request, answer] of [
      [
        packet().ipv4({ saddr: CLIENT, daddr: VIP }).tcp({ sport: 1234, dport: 80, syn: true }),
        (dport: number) => packet().ipv4({ saddr: REAL, daddr: SOURCE }).tcp({ sport: 8080, dport, syn: true, ack: true }),
      ],
      [
        packet().ipv4({ saddr: CLIENT, daddr: VIP }).udp({ sport: 1234, dport: 53 }).payload('question'),
        (dport: number) => packet().ipv4({ saddr: REAL, daddr: SOURCE }).udp({ sport: 5353, dport }).payload('answer'),
      ],
    ] as const) {
      const sent = await running.run(request.bytes());
      expect(sent.verdict).toBe('tx');
      expect(sent.packet).toHaveValidChecksums();
      const [, from, to] = /^10\.0\.0\.1:(\d+) > 10\.1\.0\.1:(\d+)$/.exec(ends(sent.packet)) ?? expect.unreachable(ends(sent.packet));
      expect([8080, 5353]).toContain(Number(to));
      const arrived = await running.run(answer(Number(from)).bytes(), { hook: 'tcIngress' });
      expect([arrived.verdict, ends(arrived.packet)]).toEqual(['pass', `${REAL}:${to} > ${CLIENT}:${from}`]);
      const left = await running.run(arrived.packet, { hook: 'tcEgress' });
      expect([left.verdict, ends(left.packet)]).toEqual(['pass', `${VIP}:${to === '8080' ? 80 : 53} > ${CLIENT}:1234`]);
      expect(left.packet).toHaveValidChecksums();
      // as long as the flow lasts
      expect(ends((await running.run(request.bytes())).packet)).toBe(ends(sent.packet));
    }
    // what a real says about a request reaches who sent it
    const request = packet().ipv4({ saddr: CLIENT, daddr: VIP }).udp({ sport: 1234, dport: 53 }).payload('question');
    const sent = await running.run(request.bytes());
    const unreachable = packet().ipv4({ saddr: REAL, daddr: SOURCE }).icmp({ type: 3, code: 3 }).quote(sent.packet, 28);
    const arrived = await running.run(unreachable.bytes(), { hook: 'tcIngress' });
    const left = await running.run(arrived.packet, { hook: 'tcEgress' });
    const told = (bytes: Uint8Array) =>
      parse(bytes)
        .filter(({ kind }) => kind === 'ipv4')
        .map(({ fields }) => `${fields.saddr} > ${fields.daddr}`);
    expect([arrived.verdict, left.verdict]).toEqual(['pass', 'pass']);
    expect(told(left.packet)).toEqual([`${REAL} > ${CLIENT}`, `${CLIENT} > ${VIP}`]);
    expect(left.packet).toHaveValidChecksums();
  });

  test('policy and monitor: flows that may start, and what is counted of them', async () => {
    const guard = policy({
      endpoints: [{ name: 'host', address: ['10.0.0.5'], rules: [{ direction: 'ingress', protocol: 'tcp', ports: [80] }] }],
    }).on({ denied: 'drop' });
    const meter = monitor();
    await using running = await pipeline('edge', { tcIngress: [guard, meter], tcEgress: [guard, meter] }, built).run(engine);
    const to = (fields: object) =>
      packet()
        .ipv4({ saddr: CLIENT, daddr: '10.0.0.5' })
        .tcp({ sport: 999, dport: 80, ...fields });
    const back = packet().ipv4({ saddr: '10.0.0.5', daddr: CLIENT }).tcp({ sport: 80, dport: 999, syn: true, ack: true });
    const verdictOf = async (frame: Packet, hook: 'tcIngress' | 'tcEgress') => (await running.run(frame.bytes(), { hook })).verdict;
    expect(await verdictOf(to({ dport: 81, syn: true }), 'tcIngress')).toBe('drop');
    expect(await verdictOf(back, 'tcEgress')).toBe('drop');
    expect(await verdictOf(to({ syn: true }), 'tcIngress')).toBe('pass');
    expect(await verdictOf(back, 'tcEgress')).toBe('pass');
    expect(await verdictOf(to({ ack: true }), 'tcIngress')).toBe('pass');
    const { tcIngress, tcEgress } = running.stats();
    expect([tcIngress['monitor.flows'].packets, tcEgress['monitor.flows'].packets]).toEqual([2n, 1n]);
  });
}
