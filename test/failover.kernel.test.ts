/** Reals that drain, die, come back and waver, seen by clients: who is disturbed, and who must not be. */
import { HealthChecker, l4lb, tcpHealth, vipName } from '@tailrace/functions/l4lb';
import { connectFrom, override, pipeline } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  addressOf,
  type BalancedNetwork,
  balancedNetwork,
  connections,
  requests,
  SOURCE,
  slotsAt,
  TCP_PORT,
  ToldHealth,
  UDP_PORT,
  VIP,
  vipsOf,
} from './balanced-network.ts';

const names = ['real1', 'real2', 'real3'] as const;
const others = ['real1', 'real3'] as const;
let network: BalancedNetwork;
beforeAll(async () => {
  network = await balancedNetwork();
});
afterAll(() => network[Symbol.asyncDispose]());

/** A balancer; without `health` it checks by TCP, every 20 ms. */
async function balanced(health?: ToldHealth) {
  const { namespace } = network.hosts.lb;
  const checker = health ?? tcpHealth({ intervalMs: 20, timeoutMs: 500, rise: 2, fall: 3, connect: connectFrom(namespace, 500) });
  const balancer = l4lb({ source: SOURCE, vips: vipsOf(...names) }).on({ notVip: 'next' });
  const running = await pipeline('edge', { xdp: [balancer] }).run(network.engine(), {
    services: [override(HealthChecker, checker), network.nextHops],
  });
  const controller = running.controller(balancer);
  await slotsAt(controller, ...names);
  return { running, controller };
}

/** UDP flows that stay open, each from a port of its own; `ask` tells who answers each, none that is silent. */
async function udpFlows(count: number) {
  const sockets = await Promise.all(Array.from({ length: count }, (_, i) => network.hosts.client.udp({ port: 40_000 + i })));
  return {
    ask: () =>
      Promise.all(
        sockets.map(async (socket) => {
          await socket.send('who?', VIP, UDP_PORT);
          return (await socket.receive()).text.split(' ')[0];
        }),
      ),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(sockets.map((socket) => socket.close()));
    },
  };
}

test('a real that drains finishes what it has; new flows go elsewhere, until the drain ends', async () => {
  const { running, controller } = await balanced(new ToldHealth());
  await using _running = running;
  const open = await connections(network.hosts.client, 24);
  const atDrained = open.filter(({ real }) => real === 'real2');
  expect(atDrained.length).toBeGreaterThan(0);
  await using flows = await udpFlows(32);
  const homes = await flows.ask();

  controller.drain(addressOf('real2'));
  expect(controller.state().map(({ reals }) => reals[1])).toMatchObject([
    { condition: 'draining', slots: 0 },
    { condition: 'draining', slots: 0 },
  ]);
  expect([...(await requests(network.hosts.client, 90)).keys()].sort()).toEqual(['real1', 'real3']);
  for (const { connection } of atDrained) {
    const { name, body } = await connection.request('/bytes/200000');
    expect([name, body.length]).toEqual(['real2', 200_000]);
  }
  expect(await flows.ask()).toEqual(homes);

  controller.restore(addressOf('real2'));
  expect((await requests(network.hosts.client, 90)).get('real2')).toBeGreaterThan(0);
  for (const { connection } of open) connection.close();
});

test('a real that dies is found out: nothing fails from then on, and its flows are picked anew', async () => {
  const { running, controller } = await balanced();
  await using _running = running;
  const open = await connections(network.hosts.client, 24);
  const survivors = open.filter(({ real }) => real !== 'real2');
  await using flows = await udpFlows(64);
  const homes = await flows.ask();
  expect(homes.filter((home) => home === 'real2').length).toBeGreaterThan(0);

  await network.servers.get('real2')?.close();
  await slotsAt(controller, ...others);
  expect(controller.state().map(({ reals }) => reals[1]?.condition)).toEqual(['down', 'down']);
  const counts = await requests(network.hosts.client, 90);
  expect([...counts.keys()].sort()).toEqual(['real1', 'real3']);
  expect((counts.get('real1') ?? 0) + (counts.get('real3') ?? 0)).toBe(90);
  for (const { connection, real } of survivors) expect((await connection.request('/')).name).toBe(real);
  const anew = await flows.ask();
  expect(new Set(anew)).toEqual(new Set(others));
  expect(anew.filter((_, i) => homes[i] !== 'real2')).toEqual(homes.filter((home) => home !== 'real2'));

  network.servers.set('real2', await network.hosts.real2.http({ port: TCP_PORT }));
  await slotsAt(controller, ...names);
  expect((await requests(network.hosts.client, 90)).get('real2')).toBeGreaterThan(0);
  // What was picked anew stays there: to be up again moves no flow back.
  expect(await flows.ask()).toEqual(anew);
  for (const { connection } of open) connection.close();
});

test('a real that wavers disturbs nobody at the others', async () => {
  const health = new ToldHealth();
  const { running, controller } = await balanced(health);
  await using _running = running;
  const open = await connections(network.hosts.client, 24);
  const steady = open.filter(({ real }) => real !== 'real2');
  const lost = () => running.stats().xdp['l4lb.pick'].exits.noReal;
  // Closed connections of other tests may have come before the next hops were known.
  const early = lost();
  let wavering = true;
  let asked = 0;
  const asking = Promise.all(
    steady.map(async ({ connection, real }) => {
      while (wavering) {
        expect((await connection.request('/')).name).toBe(real);
        asked++;
      }
    }),
  );
  for (let i = 0; i < 20; i++) {
    for (const well of [false, true]) {
      const before = asked;
      health.set('real2', well);
      const now = well ? names : others;
      await slotsAt(controller, ...now);
      // Some requests between any two changes.
      while (asked < before + 5) await new Promise((resolve) => setImmediate(resolve));
    }
  }
  wavering = false;
  await asking;
  expect(asked).toBeGreaterThanOrEqual(200);
  // Each packet found somebody who is up, whenever it came.
  expect(lost()).toBe(early);
  for (const { connection } of open) connection.close();
});

test('without any real, packets are counted and dropped; the first one that is well gets them', async () => {
  const health = new ToldHealth();
  const { running, controller } = await balanced(health);
  await using _running = running;
  for (const name of names) health.set(name, false);
  await slotsAt(controller);
  await expect(network.hosts.client.request(`http://${VIP}/`, { timeoutMs: 200 })).rejects.toMatchObject({ code: 'syscall' });
  expect(running.stats().xdp['l4lb.pick'].exits.noReal).toBeGreaterThan(0n);
  health.set('real3', true);
  await slotsAt(controller, 'real3');
  expect([...(await requests(network.hosts.client, 10))]).toEqual([['real3', 10]]);
  expect(controller.traffic().map(({ name }) => name)).toEqual([
    vipName({ address: VIP, port: TCP_PORT, protocol: 'tcp' }),
    vipName({ address: VIP, port: UDP_PORT, protocol: 'udp' }),
  ]);
});
