/** The balancer in the kernel, on real connections between network namespaces. */
import '@tailrace/testing/matchers';
import { decap } from '@tailrace/functions/decap';
import { override } from '@tailrace/stage';
import { eventually, fragments, packet, parse, type Topology, topology } from '@tailrace/testing';
import { firstValueFrom } from 'rxjs';
import { filter } from 'rxjs/operators';
import { connectFrom, kernel, kernelNextHops, pipeline } from 'tailrace';
import { describe, expect, it } from 'vitest';
import { HealthChecker, l4lb, NextHops, tcpHealth, vipName } from './index.ts';

const VIP = '198.51.100.1';
const web = { address: VIP, port: 80, protocol: 'tcp' } as const;
const names = ['one', 'two', 'three'] as const;
type HostName = 'client' | 'lb' | (typeof names)[number];
const addressOf = (name: (typeof names)[number]): string => `10.1.${names.indexOf(name) + 1}.2`;

/** client ── lb ── three reals; answers are routed back by the balancer's host, past the balancer. */
function network(): Promise<Topology<HostName>> {
  const real = (n: number) => ({ loopback: [`${VIP}/32`], routes: [{ to: 'default', via: `10.1.${n}.1` }] });
  return topology({
    hosts: {
      client: { routes: [{ to: 'default', via: '10.0.0.1' }] },
      lb: { forwarding: true, sysctls: { 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/default/rp_filter': 0 } },
      one: real(1),
      two: real(2),
      three: real(3),
    },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.2/24'], mac: '02:00:00:00:00:02' },
          { host: 'lb', addresses: ['10.0.0.1/24'], mac: '02:00:00:00:00:01', xdp: true },
        ],
      },
      ...names.map(
        (name, i) =>
          ({
            ends: [
              { host: 'lb', addresses: [`10.1.${i + 1}.1/24`] },
              { host: name, addresses: [`10.1.${i + 1}.2/24`], xdp: true },
            ],
          }) as const,
      ),
    ],
  });
}

async function setUp() {
  const stack = new AsyncDisposableStack();
  const net = stack.use(await network());
  const { client, lb } = net.hosts;
  const servers = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await net.hosts[name].http({ port: 80 })])));
  for (const name of names) {
    const inner = pipeline('inner', { xdp: [decap({ addresses: [addressOf(name)], sources: ['10.1.0.1'] })] });
    stack.use(await inner.run(kernel({ interfaces: ['lb'], netns: net.hosts[name].namespace })));
  }
  const balancer = l4lb({
    source: '10.1.0.1',
    vips: [
      { ...web, reals: names.map((name) => ({ address: addressOf(name) })) },
      { ...web, protocol: 'udp', port: 53 },
    ],
  }).on({ notVip: 'next' });
  const running = stack.use(
    await pipeline('edge', { xdp: [balancer] }).run(kernel({ interfaces: ['client'], netns: lb.namespace }), {
      services: [
        override(HealthChecker, tcpHealth({ intervalMs: 50, timeoutMs: 500, rise: 1, fall: 2, connect: connectFrom(lb.namespace) })),
        override(NextHops, kernelNextHops({ netns: lb.namespace })),
      ],
    }),
  );
  const controller = running.controller(balancer);
  const active = (count: number) =>
    firstValueFrom(
      controller.state$.pipe(filter(([vip]) => vip?.reals.filter(({ condition }) => condition === 'active').length === count)),
    );
  await active(3);
  const ask = async () => (await client.request(`http://${VIP}/`)).name;
  const askMany = async (count: number) => {
    const counts = new Map<string | undefined, number>();
    for (let i = 0; i < count; i++) {
      const name = await ask();
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    return counts;
  };
  return { ...net, client, running, controller, servers, active, ask, askMany, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

const key = vipName(web);

describe('the balancer', () => {
  it('spreads connections, keeps them, drains, and takes dead reals out', async () => {
    await using t = await setUp();
    const counts = await t.askMany(60);
    expect([...counts.keys()].sort()).toEqual(['one', 'three', 'two']);
    for (const count of counts.values()) expect(count).toBeGreaterThan(5);
    expect(t.controller.traffic()[0]?.reals.every(({ packets }) => packets > 0n)).toBe(true);

    // a connection stays where it is while everything around it changes
    const connection = await t.client.connectHttp(`http://${VIP}/`);
    const home = (await connection.request('/')).name as (typeof names)[number];
    const others = names.filter((name) => name !== home);
    t.controller.removeReal(web, addressOf(others[0] as 'one'));
    expect((await connection.request('/')).name).toBe(home);
    t.controller.drain(addressOf(home));
    expect((await connection.request('/')).name).toBe(home);
    expect([...(await t.askMany(10)).keys()]).toEqual([others[1]]);
    t.controller.restore(addressOf(home));
    t.controller.addReal(web, { address: addressOf(others[0] as 'one') });
    await t.active(3);
    expect((await connection.request('/')).name).toBe(home);

    // a dead one: nobody fails once it is out
    await t.servers[home]?.close();
    await t.active(2);
    expect((await t.askMany(20)).has(home)).toBe(false);
  });

  it('carries large bodies both ways', async () => {
    await using t = await setUp();
    const size = 2_000_000;
    const connection = await t.client.connectHttp(`http://${VIP}/`);
    expect((await connection.request(`/bytes/${size}`)).body).toHaveLength(size);
    expect((await connection.request('/', { body: new Uint8Array(size) })).text).toBe(String(size));
    // large segments were refused at first: the client has learnt what fits
    expect(t.running.stats().xdp['l4lb.tooBig'].verdicts.tx).toBeGreaterThan(0n);
  });

  it('answers what is too big, and drops fragments and what has no reals', async () => {
    await using t = await setUp();
    const frames = t.client.frames('lb');
    const out = packet().ethernet({ src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' });
    const to = (fields: object = {}) => out.ipv4({ saddr: '10.0.0.2', daddr: VIP, dontFragment: true, ...fields });
    frames.send(to().tcp({ ack: true }).payload(1460));
    const answer = await frames.receive({ where: (frame) => parse(frame)[2]?.kind === 'icmp' });
    expect(answer).toHaveValidChecksums();
    expect(parse(answer)[2]?.fields).toMatchObject({ type: '3', code: '4' });
    for (const fragment of fragments(to({ dontFragment: false }).udp({ dport: 53 }).payload(100), 40)) frames.send(fragment);
    frames.send(to().udp({ dport: 53 }).payload('nobody'));
    frames.send(to({ dontFragment: false }).tcp({ ack: true }).payload(1460));
    const stats = await eventually(() => {
      const { xdp } = t.running.stats();
      return xdp['l4lb.tooBig'].verdicts.drop === 1n && xdp['l4lb.pick'].exits.noReal === 1n ? xdp : undefined;
    }, 2000);
    expect(stats['l4lb.vip'].exits.fragment).toBe(3n);
    expect(stats['l4lb.tooBig'].verdicts.tx).toBe(1n);
    expect(t.controller.state().find(({ name }) => name === key)?.reals).toHaveLength(3);
  });
});
