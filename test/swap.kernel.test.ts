/** Stages that are swapped while numbered datagrams from real sockets flow, and slots that are found empty. */
import { encap, l4lb, vip } from '@tailrace/functions/l4lb';
import { eventually } from '@tailrace/testing';
import { pipeline, stage, u16 } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { numberedLoad } from '../examples/l4lb/load.ts';
import { type BalancedNetwork, balancedNetwork, REALS, SOURCE, slotsAt, ToldHealth, UDP_PORT, VIP, vipsOf } from './balanced-network.ts';
import { watched } from './watched-engine.ts';

const SWAPS = 8;
let network: BalancedNetwork;
beforeAll(async () => {
  network = await balancedNetwork();
});
afterAll(() => network[Symbol.asyncDispose]());

const makeBalancer = () => l4lb({ source: SOURCE, vips: vipsOf(...REALS) }).on({ notVip: 'next' });
const services = () => [new ToldHealth().service, network.nextHops];

/** Two ways to whatever comes next, taken by chance. */
const coin = stage({ name: 'coin', hook: 'xdp', program: (ctx) => ((ctx.random() & 1) === 0 ? ctx.exit('heads') : ctx.next()) });

/** Takes every packet for too big. */
const strict = stage({
  name: 'strict',
  hook: 'xdp',
  reads: { real: u16 },
  writes: { fits: u16 },
  program(ctx) {
    ctx.meta.fits = 576;
    return ctx.exit('tooBig');
  },
});

test('a stage behind one edge is swapped by its slot, and no datagram is lost', async () => {
  const balancer = makeBalancer();
  const engine = watched(network.engine());
  await using running = await pipeline('edge', { xdp: [balancer] }).run(engine.engine, { services: services() });
  await slotsAt(running.controller(balancer), ...REALS);
  const mine = balancer.stage(encap);
  const sent = () => running.stats().xdp['l4lb.encap'].packets;
  await using load = await numberedLoad(network.hosts.client, VIP, UDP_PORT);
  for (let i = 1; i <= SWAPS; i++) {
    const before = sent();
    await eventually(() => sent() > before + 50n);
    await running.replace(mine, mine.as(`encapV${i}`));
  }
  const result = await load.end();
  expect(result).toMatchObject({ missing: [], answered: result.sent });
  expect(result.sent).toBeGreaterThanOrEqual(50 * SWAPS);
  expect(engine.count('edge/xdp.array')).toBe(1);
  const { xdp, roots } = running.stats();
  expect(xdp['l4lb.encap']).toMatchObject({ packets: BigInt(result.sent), misses: 0n });
  expect([xdp['l4lb.vip'].misses, xdp['l4lb.pick'].misses, roots.xdp.misses]).toEqual([0n, 0n, 0n]);

  // The new stage is what runs: a packet that fitted before is too big for it.
  await running.replace(mine, strict);
  const socket = await network.hosts.client.udp();
  await socket.send(new Uint8Array(600), VIP, UDP_PORT);
  await eventually(() => running.stats().xdp['l4lb.encap'].exits.tooBig === 1n);
});

test('a stage behind several edges is swapped with its whole generation, and no datagram is lost', async () => {
  const balancer = makeBalancer();
  const engine = watched(network.engine());
  await using running = await pipeline('edge', { xdp: [coin.on({ heads: 'next' }), balancer] }).run(engine.engine, {
    services: services(),
  });
  await slotsAt(running.controller(balancer), ...REALS);
  const mine = balancer.stage(vip);
  const seen = () => running.stats().xdp['l4lb.vip'].packets;
  await using load = await numberedLoad(network.hosts.client, VIP, UDP_PORT);
  for (let i = 1; i <= SWAPS; i++) {
    const before = seen();
    await eventually(() => seen() > before + 50n);
    await running.replace(mine, mine.as(`vipV${i}`));
    expect(engine.count('edge/xdp.array')).toBe(1 + i);
  }
  const result = await load.end();
  expect(result).toMatchObject({ missing: [], answered: result.sent });
  const { xdp, roots } = running.stats();
  expect(xdp['l4lb.encap'].packets).toBe(BigInt(result.sent));
  expect(xdp.coin.packets).toBe(xdp['l4lb.vip'].packets);
  expect(xdp.coin.exits.heads).toBeGreaterThan(0n);
  expect(xdp.coin.next).toBeGreaterThan(0n);
  expect([...Object.values(xdp).map(({ misses }) => misses), roots.xdp.misses].every((misses) => misses === 0n)).toBe(true);
  expect(running.describe().chains.xdp.stages.find(({ name }) => name === 'l4lb.vip')?.stage).toBe(`vipV${SWAPS}`);
});

test.each(['pass', 'drop'] as const)(
  'a packet that finds its slot empty is counted, and gets the verdict of onMiss: %s',
  async (onMiss) => {
    const first = stage({ name: 'first', hook: 'xdp', onMiss, program: (ctx) => (ctx.ipv4() ? ctx.next() : ctx.pass()) });
    const last = stage({ name: 'last', hook: 'xdp', program: (ctx) => ctx.next() });
    const engine = watched(network.engine());
    await using running = await pipeline('gap', { xdp: [first, last] }).run(engine.engine);
    await using echo = await network.hosts.lb.udpEcho();
    await using socket = await network.hosts.client.udp();
    const ask = () => socket.send('hello', SOURCE, echo.port);
    await ask();
    expect((await socket.receive()).text).toBe('hello');
    expect(running.stats().xdp).toMatchObject({ first: { next: 1n, misses: 0n }, last: { packets: 1n } });

    await engine.map('gap/xdp.array').clearProgram(0);
    for (let i = 0; i < 5; i++) await ask();
    await eventually(() => running.stats().xdp.first.misses === 5n);
    expect(running.stats().xdp).toMatchObject({ first: { next: 6n, misses: 5n }, last: { packets: 1n } });
    if (onMiss === 'pass') await eventually(() => echo.received === 6);

    // A swap fills the slot again; what was dropped before never came.
    await running.replace(last, last.as('again'));
    await ask();
    await eventually(() => echo.received === (onMiss === 'pass' ? 7 : 2));
    expect(running.stats().xdp).toMatchObject({ first: { misses: 5n }, last: { packets: 2n } });
  },
);
