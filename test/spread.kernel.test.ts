/** How flows spread: the ring's slots within Maglev's bounds, and real connections and datagrams as the slots say. */
import { l4lb } from '@tailrace/functions/l4lb';
import { MAGLEV_SIZE } from '@tailrace/functions/structures';
import { pipeline } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  addressOf,
  type BalancedNetwork,
  balancedNetwork,
  REALS,
  requests,
  SOURCE,
  slotsAt,
  ToldHealth,
  UDP_PORT,
  VIP,
  vipsOf,
} from './balanced-network.ts';
import { binomialBounds } from './binomial.ts';

let network: BalancedNetwork;
beforeAll(async () => {
  network = await balancedNetwork();
});
afterAll(() => network[Symbol.asyncDispose]());

const weights = { real1: 1, real2: 1, real3: 2, real4: 4 } as const;
const total = Object.values(weights).reduce<number>((a, b) => a + b, 0);

async function balanced() {
  const balancer = l4lb({ source: SOURCE, vips: vipsOf(...REALS) }).on({ notVip: 'next' });
  const running = await pipeline('edge', { xdp: [balancer] }).run(network.engine(), {
    services: [new ToldHealth().service, network.nextHops],
  });
  const controller = running.controller(balancer);
  await slotsAt(controller, ...REALS);
  return { running, controller };
}

function expectWithin(counts: ReadonlyMap<string, number>, share: (name: (typeof REALS)[number]) => number): void {
  const trials = [...counts.values()].reduce((a, b) => a + b, 0);
  for (const name of REALS) {
    const { low, high } = binomialBounds(trials, share(name));
    expect(counts.get(name) ?? 0, `${name} of ${trials}`).toBeGreaterThanOrEqual(low);
    expect(counts.get(name) ?? 0, `${name} of ${trials}`).toBeLessThanOrEqual(high);
  }
}

test('reals of one weight have the same slots, but for one, and get connections alike', async () => {
  const { running, controller } = await balanced();
  await using _running = running;
  for (const { reals } of controller.state()) {
    const slots = reals.map((real) => real.slots);
    expect(slots.reduce((a, b) => a + b)).toBe(MAGLEV_SIZE);
    expect(Math.max(...slots) - Math.min(...slots)).toBeLessThanOrEqual(1);
  }
  const counts = await requests(network.hosts.client, 200);
  expect([...counts.values()].reduce((a, b) => a + b)).toBe(200);
  expectWithin(counts, () => 1 / REALS.length);
  const { xdp } = running.stats();
  expect(xdp['l4lb.encap'].verdicts.redirect).toBe(xdp['l4lb.vip'].next);
  expect(xdp['l4lb.vip'].next).toBeGreaterThanOrEqual(200n * 5n);
});

test('weights are shares of slots, and of 2,000 flows over UDP', async () => {
  const { running, controller } = await balanced();
  await using _running = running;
  for (const vip of controller.state()) for (const name of REALS) controller.setWeight(vip.name, addressOf(name), weights[name]);
  for (const { reals } of controller.state()) {
    for (const name of REALS) {
      const share = weights[name] / total;
      const slots = reals.find(({ address }) => address === addressOf(name))?.slots ?? 0;
      // Each turn of the ring's members gives a slot for each unit of weight: the last turn may end within.
      expect(Math.abs(slots - MAGLEV_SIZE * share)).toBeLessThanOrEqual(1 + REALS.length * share);
    }
  }
  // The ports are given, so that every run sends the very same flows.
  const counts = new Map<string, number>();
  for (let from = 20_000; from < 22_000; from += 100) {
    const sockets = await Promise.all(Array.from({ length: 100 }, (_, i) => network.hosts.client.udp({ port: from + i })));
    for (const socket of sockets) await socket.send('who?', VIP, UDP_PORT);
    for (const socket of sockets) {
      const [name = '?'] = (await socket.receive()).text.split(' ');
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    await Promise.all(sockets.map((socket) => socket.close()));
  }
  expectWithin(counts, (name) => weights[name] / total);
  const [, udp] = controller.traffic();
  expect(udp?.packets).toBe(2_000n);
  expect(udp?.reals.map(({ packets }) => packets)).toEqual(REALS.map((name) => BigInt(counts.get(name) ?? 0)));
});
