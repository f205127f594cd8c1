/** Redirects at TC under real traffic: a router made of stages, into namespaces and tunnels, and copies on the way. */
import { type Host, parse, topology } from '@tailrace/testing';
import { ip, ipv6, kernel, pipeline, stage } from 'tailrace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checksumErrors } from './host-counters.ts';
import { watchLeaks } from './leak-watch.ts';

const SIZE = 5 << 20;
const PORT = 8_080;

/** The router forwards nothing of itself: what gets through it stages have sent. `tap` gets copies. */
const makeNetwork = () =>
  topology({
    hosts: {
      left: {
        routes: [
          { to: '10.0.2.0/24', via: '10.0.1.1' },
          { to: 'fd00:2::/64', via: 'fd00:1::1' },
        ],
      },
      router: {},
      right: {
        routes: [
          { to: '10.0.1.0/24', via: '10.0.2.1' },
          { to: 'fd00:1::/64', via: 'fd00:2::1' },
        ],
      },
      tap: {},
    },
    links: [
      {
        ends: [
          { host: 'left', interface: 'up', addresses: ['10.0.1.2/24', 'fd00:1::2/64'] },
          { host: 'router', interface: 'left', addresses: ['10.0.1.1/24', 'fd00:1::1/64'] },
        ],
      },
      {
        ends: [
          { host: 'right', interface: 'up', addresses: ['10.0.2.2/24', 'fd00:2::2/64'] },
          { host: 'router', interface: 'right', addresses: ['10.0.2.1/24', 'fd00:2::1/64'] },
        ],
      },
      {
        ends: [
          { host: 'tap', interface: 'up' },
          { host: 'router', interface: 'tap' },
        ],
      },
    ],
  });
let network: Awaited<ReturnType<typeof makeNetwork>>;
let left: Host;
let right: Host;
let router: Host;

const leaks = watchLeaks(() => Object.values(network.hosts));
beforeAll(async () => {
  network = await makeNetwork();
  ({ left, right, router } = network.hosts);
  for (const host of [left, right]) {
    await host.http({ address: '::', port: PORT });
    await host.udpEcho({ address: '::', port: 7 });
    host.route.createVxlan({ name: 'tun', mtu: 1_400 });
    host.route.change('tun', { up: true });
  }
  left.route.addAddress('tun', '172.16.0.1/24');
  right.route.addAddress('tun', '172.16.0.2/24');
});
afterAll(() => network.close());

const at = (host: Host, ...interfaces: readonly string[]) => kernel({ interfaces, netns: host.namespace });
const macOf = (host: Host, name: string): number => Number.parseInt(host.mac(name).replaceAll(':', ''), 16);

/** Where a router has to send something: what its stages name. */
const ways = () => ({
  leftNet: ip('10.0.1.0'),
  rightNet: ip('10.0.2.0'),
  leftNet6: ipv6('fd00:1::').hi,
  rightNet6: ipv6('fd00:2::').hi,
  toLeft: router.ifindex('left'),
  toRight: router.ifindex('right'),
});

/** Finds the way, takes one off the hops left, and tells by exits where to go. */
const route = stage({
  name: 'route',
  hook: 'tcIngress',
  uses: { leftNet: 0, rightNet: 0, leftNet6: 0n, rightNet6: 0n },
  program(ctx, { leftNet, rightNet, leftNet6, rightNet6 }) {
    const ip = ctx.ipv4();
    const ip6 = ctx.ipv6();
    if (ip) {
      const net = (ip.daddr & 0xffff_ff00) >>> 0;
      if ((net !== leftNet && net !== rightNet) || (ip.daddr & 255) === 1) return ctx.next();
      if (ip.ttl <= 1) return ctx.drop();
      const word = ip.ttl * 256 + ip.protocol;
      ip.checksum = ctx.checksumReplace(ip.checksum, word, word - 256);
      ip.ttl -= 1;
      return net === leftNet ? ctx.exit('left') : ctx.exit('right');
    }
    if (!ip6 || ip6.daddr.lo === 1n) return ctx.next();
    const net = ip6.daddr.hi;
    if (net !== leftNet6 && net !== rightNet6) return ctx.next();
    if (ip6.hopLimit <= 1) return ctx.drop();
    ip6.hopLimit -= 1;
    return net === leftNet6 ? ctx.exit('left') : ctx.exit('right');
  },
});
/** Out of an interface, with the addresses that the next hop there wants. */
const toInterface = stage({
  name: 'toInterface',
  hook: 'tcIngress',
  uses: { to: 0, dst: 0, src: 0 },
  program(ctx, { to, dst, src }) {
    const ethernet = ctx.ethernet();
    if (!ethernet) return ctx.drop();
    ethernet.dst = dst;
    ethernet.src = src;
    return ctx.redirect(to);
  },
});
const toNeighbour = stage({ name: 'toNeighbour', hook: 'tcIngress', uses: { to: 0 }, program: (ctx, { to }) => ctx.redirectNeigh(to) });
const toPeer = stage({ name: 'toPeer', hook: 'tcIngress', uses: { to: 0 }, program: (ctx, { to }) => ctx.redirectPeer(to) });
const toIngress = stage({ name: 'toIngress', hook: 'tcIngress', uses: { to: 0 }, program: (ctx, { to }) => ctx.redirectIngress(to) });

/** Everything between the two hosts: TCP both ways, UDP, and an echo with its hops counted. */
async function exchange(hops: number): Promise<void> {
  const errors = [left, right].map(checksumErrors);
  for (const [from, to] of [
    [left, '10.0.2.2'],
    [right, '[fd00:1::2]'],
  ] as const)
    await from.upload(`http://${to}:${PORT}/`, SIZE);
  using wire = right.frames('up');
  for (const address of ['10.0.2.2', 'fd00:2::2']) {
    await using socket = await left.udp({ address: address.includes(':') ? '::' : '0.0.0.0' });
    await socket.send(new Uint8Array(1_200), address, 7);
    expect((await socket.receive()).payload).toHaveLength(1_200);
    expect((await left.ping(address)).kind).toBe('reply');
    const sent = await wire.receive({ where: (frame) => parse(frame)[1]?.fields.daddr === address && parse(frame)[2]?.kind === 'udp' });
    const { ttl, hopLimit } = parse(sent)[1]?.fields ?? {};
    expect(Number(ttl ?? hopLimit)).toBe(64 - hops);
  }
  expect([left, right].map(checksumErrors)).toEqual(errors);
}

describe('a router of stages', () => {
  test('to interfaces, with addresses from the stages', async () => {
    const { leftNet, rightNet, leftNet6, rightNet6, toLeft, toRight } = ways();
    const out = (name: 'left' | 'right', host: Host, to: number) =>
      toInterface.as(name).with({ to, dst: macOf(host, 'up'), src: macOf(router, name) });
    const wired = route
      .with({ leftNet, rightNet, leftNet6, rightNet6 })
      .on({ left: out('left', left, toLeft), right: out('right', right, toRight) });
    await using running = await pipeline('router', { tcIngress: [wired] }).run(at(router, 'left', 'right'));
    leaks.remember();
    await exchange(1);
    const { tcIngress } = running.stats();
    expect(tcIngress.right.verdicts.redirect).toBe(tcIngress.route.exits.right);
    expect(tcIngress.left.verdicts.redirect).toBe(tcIngress.route.exits.left);
    expect(tcIngress.right.verdicts.redirect).toBeGreaterThan(BigInt(Math.floor(SIZE / 1_448)));
  });

  test('to neighbours, whose addresses the kernel finds', async () => {
    const { toLeft, toRight, ...nets } = ways();
    const wired = route
      .with(nets)
      .on({ left: toNeighbour.as('left').with({ to: toLeft }), right: toNeighbour.as('right').with({ to: toRight }) });
    await using running = await pipeline('router', { tcIngress: [wired] }).run(at(router, 'left', 'right'));
    leaks.remember();
    await exchange(1);
    expect(running.stats().tcIngress.left.verdicts.redirect).toBeGreaterThan(BigInt(Math.floor(SIZE / 1_448)));
  });

  test('to peers, straight into their namespaces', async () => {
    const { toLeft, toRight, ...nets } = ways();
    const wired = route.with(nets).on({ left: toPeer.as('left').with({ to: toLeft }), right: toPeer.as('right').with({ to: toRight }) });
    await using running = await pipeline('router', { tcIngress: [wired] }).run(at(router, 'left', 'right'));
    leaks.remember();
    await exchange(1);
    expect(running.stats().tcIngress.left.verdicts.redirect).toBeGreaterThan(BigInt(Math.floor(SIZE / 1_448)));
  });

  test('in at another interface, where another pipeline goes on', async () => {
    const { toLeft, toRight, ...nets } = ways();
    const aside = toIngress.with({ to: router.ifindex('tap') });
    const first = route.with(nets).on({ left: aside, right: aside });
    const second = route
      .with(nets)
      .on({ left: toNeighbour.as('left').with({ to: toLeft }), right: toNeighbour.as('right').with({ to: toRight }) });
    await using one = await pipeline('one', { tcIngress: [first] }).run(at(router, 'left', 'right'));
    await using two = await pipeline('two', { tcIngress: [second] }).run(at(router, 'tap'));
    leaks.remember();
    await exchange(2);
    const [sent, met] = [one.stats().tcIngress.toIngress.verdicts.redirect, two.stats().tcIngress.route];
    expect((met.exits.left ?? 0n) + (met.exits.right ?? 0n)).toBe(sent);
  });

  test('copies to a third interface are all there, and the packets go on', async () => {
    const { toLeft, toRight, ...nets } = ways();
    const mirror = stage({
      name: 'mirror',
      hook: 'tcIngress',
      uses: { to: router.ifindex('tap') },
      program(ctx, { to }) {
        if (!ctx.udp()) return ctx.next();
        return ctx.clone(to) ? ctx.next() : ctx.drop();
      },
    });
    const wired = route
      .with(nets)
      .on({ left: toNeighbour.as('left').with({ to: toLeft }), right: toNeighbour.as('right').with({ to: toRight }) });
    await using running = await pipeline('router', { tcIngress: [mirror, wired] }).run(at(router, 'left', 'right'));
    leaks.remember();
    using tapped = network.hosts.tap.frames('up');
    await using socket = await left.udp();
    const seen: string[] = [];
    for (let sent = 0; sent < 20; sent++) {
      await socket.send(`number ${sent}`, '10.0.2.2', 7);
      expect((await socket.receive()).text).toBe(`number ${sent}`);
      for (const daddr of ['10.0.2.2', '10.0.1.2']) {
        const copy = await tapped.receive({ where: (frame) => parse(frame)[2]?.kind === 'udp' });
        expect(parse(copy)[1]?.fields).toMatchObject({ daddr, ttl: '64' });
        seen.push(new TextDecoder().decode(copy.subarray(42)));
      }
    }
    expect(seen).toEqual(Array.from({ length: 20 }, (_, sent) => [`number ${sent}`, `number ${sent}`]).flat());
    expect(running.stats().tcIngress.mirror.verdicts.drop).toBe(0n);
  });
});

/** An address as the four words of a tunnel key. */
function words(address: string): readonly [number, number, number, number] {
  if (!address.includes(':')) return [ip(address), 0, 0, 0];
  const { hi, lo } = ipv6(address);
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, hi);
  view.setBigUint64(8, lo);
  return [view.getUint32(0, true), view.getUint32(4, true), view.getUint32(8, true), view.getUint32(12, true)];
}

describe.each(['ipv4', 'ipv6'] as const)('a tunnel over %s', (family) => {
  test('keys lead packets through it, and tell where they come from', async () => {
    const { toLeft, toRight, ...nets } = ways();
    const wired = route
      .with(nets)
      .on({ left: toNeighbour.as('left').with({ to: toLeft }), right: toNeighbour.as('right').with({ to: toRight }) });
    await using _router = await pipeline('router', { tcIngress: [wired] }).run(at(router, 'left', 'right'));
    const end = (other: string, vni: number, expected: number) => {
      const [r0, r1, r2, r3] = words(other);
      const uses = { r0, r1, r2, r3, vni, expected };
      const wrap = stage({
        name: 'wrap',
        hook: 'tcEgress',
        uses: { ...uses, six: family === 'ipv6' },
        program(ctx, { r0, r1, r2, r3, vni, six }) {
          const key = { id: vni, remote: [r0, r1, r2, r3], local: [0, 0, 0, 0], tos: 0, ttl: 33, extra: 0, label: 0 };
          const set = six ? ctx.setTunnelKey(key, 'ipv6') : ctx.setTunnelKey(key);
          return set ? ctx.next() : ctx.drop();
        },
      });
      const unwrap = stage({
        name: 'unwrap',
        hook: 'tcIngress',
        uses: { ...uses, six: family === 'ipv6' },
        program(ctx, { r0, r1, r2, r3, expected, six }) {
          const key = six ? ctx.tunnelKey('ipv6') : ctx.tunnelKey();
          if (!key || key.id !== expected) return ctx.exit('strange');
          const from = key.remote[0] === r0 && key.remote[1] === r1 && key.remote[2] === r2 && key.remote[3] === r3;
          // One hop behind the sender, a router of stages.
          return from && key.ttl === 32 ? ctx.next() : ctx.exit('strange');
        },
      });
      return pipeline('end', { tcEgress: [wrap], tcIngress: [unwrap.on({ strange: 'drop' })] });
    };
    const [leftEnd, rightEnd] = family === 'ipv4' ? ['10.0.1.2', '10.0.2.2'] : ['fd00:1::2', 'fd00:2::2'];
    await using one = await end(rightEnd ?? '', 0x123456, 7).run(at(left, 'tun'));
    await using two = await end(leftEnd ?? '', 7, 0x123456).run(at(right, 'tun'));
    leaks.remember();
    const errors = [left, right].map(checksumErrors);
    await left.upload(`http://172.16.0.2:${PORT}/`, SIZE);
    await right.upload(`http://172.16.0.1:${PORT}/`, SIZE);
    expect((await left.ping('172.16.0.2')).kind).toBe('reply');
    expect([left, right].map(checksumErrors)).toEqual(errors);
    for (const { tcIngress, tcEgress } of [one.stats(), two.stats()]) {
      expect(tcEgress.wrap.verdicts.drop).toBe(0n);
      expect(tcIngress.unwrap.exits.strange).toBe(0n);
      expect(tcIngress.unwrap.next).toBeGreaterThan(BigInt(Math.floor(SIZE / 1_348)));
    }
  });
});
