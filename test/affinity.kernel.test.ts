/**
 * Flows stay where they are: while reals come and go, and while their sender moves between CPUs, where only the shared
 * level of the flow cache can still know them.
 */
import { l4lb } from '@tailrace/functions/l4lb';
import { pipeline } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  addressOf,
  type BalancedNetwork,
  balancedNetwork,
  connections,
  type RealName,
  requests,
  SOURCE,
  slotsAt,
  TCP_PORT,
  ToldHealth,
  UDP_PORT,
  VIP,
  vipsOf,
} from './balanced-network.ts';
import { allowedCpus, pinnedClient } from './pinned-client.ts';
import { watched } from './watched-engine.ts';

let network: BalancedNetwork;
beforeAll(async () => {
  network = await balancedNetwork();
});
afterAll(() => network[Symbol.asyncDispose]());

async function balanced(...names: readonly RealName[]) {
  const balancer = l4lb({ source: SOURCE, vips: vipsOf(...names) }).on({ notVip: 'next' });
  const engine = watched(network.engine());
  const running = await pipeline('edge', { xdp: [balancer] }).run(engine.engine, {
    services: [new ToldHealth().service, network.nextHops],
  });
  const controller = running.controller(balancer);
  await slotsAt(controller, ...names);
  return { running, controller, engine };
}

test('connections stay on their real while one is added, one drained and one removed', async () => {
  const { running, controller } = await balanced('real1', 'real2', 'real3');
  await using _running = running;
  const open = await connections(network.hosts.client, 36);
  const homes = (): number => new Set(open.map(({ real }) => real)).size;
  expect(homes()).toBe(3);
  const ask = () => Promise.all(open.map(async ({ connection }) => (await connection.request('/')).name));
  const before = open.map(({ real }) => real);

  for (const { name } of controller.state()) controller.addReal(name, { address: addressOf('real4') });
  await slotsAt(controller, 'real1', 'real2', 'real3', 'real4');
  expect(await ask()).toEqual(before);
  expect((await requests(network.hosts.client, 60)).get('real4')).toBeGreaterThan(0);

  controller.drain(addressOf('real2'));
  await slotsAt(controller, 'real1', 'real3', 'real4');
  expect(await ask()).toEqual(before);

  for (const { name } of controller.state()) controller.removeReal(name, addressOf('real3'));
  await slotsAt(controller, 'real1', 'real4');
  const kept = open.filter(({ real }) => real !== 'real3');
  const answers = await Promise.all(kept.map(async ({ connection }) => (await connection.request('/')).name));
  expect(answers).toEqual(kept.map(({ real }) => real));
  // Those of the one that was removed are at another now, which knows nothing of them.
  const lost = await Promise.allSettled(open.filter(({ real }) => real === 'real3').map(({ connection }) => connection.request('/')));
  expect(new Set(lost.map(({ status }) => status))).toEqual(new Set(['rejected']));
  for (const { connection } of open) connection.close();
});

test('flows stay on their real when their sender moves to another CPU', async ({ skip }) => {
  const [first = 0, second] = allowedCpus();
  if (second === undefined) return skip('a sender can only move where there are two CPUs');
  const { running, controller, engine } = await balanced('real1', 'real2', 'real3', 'real4');
  await using _running = running;
  const client = await pinnedClient(network.hosts.client, first);
  const flows = 48;
  const udp = { protocol: 'udp', flows, address: VIP, port: UDP_PORT } as const;
  const tcp = { protocol: 'tcp', flows: 16, address: VIP, port: TCP_PORT } as const;
  const homes = { udp: await client.ask(udp), tcp: await client.ask(tcp) };
  expect(new Set(homes.udp).size).toBe(4);

  // The ring would now say something else of every flow at the two that drain: who still finds its home remembers it.
  controller.drain(addressOf('real1'));
  controller.drain(addressOf('real2'));
  await slotsAt(controller, 'real3', 'real4');
  const counted = () => {
    const index = controller.state().findIndex(({ name }) => name.endsWith('udp'));
    // For each CPU packets and bytes, 64 bits each.
    const counters = engine.map('l4lb/vipTraffic').lookup(Uint8Array.of(index, 0, 0, 0)) ?? new Uint8Array(0);
    const view = new DataView(counters.buffer, counters.byteOffset);
    return (cpu: number) => Number(view.getBigUint64(16 * cpu, true));
  };
  const before = counted();
  expect([before(first), before(second)]).toEqual([flows, 0]);

  client.moveTo(second);
  expect(await client.ask(udp)).toEqual(homes.udp);
  const after = counted();
  expect([after(first), after(second)]).toEqual([flows, flows]);
  expect(await client.ask(tcp)).toEqual(homes.tcp);

  client.moveTo(first);
  expect(await client.ask(udp)).toEqual(homes.udp);
  expect(await client.ask(tcp)).toEqual(homes.tcp);
});
