/**
 * The process of a load balancer is killed, and the next one starts with the same configuration or another, while clients are served:
 * no packet is without a real, connections stay where they are, and the maps become what the configuration says.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { HealthChecker, l4lb, tcpHealth, type VipOptions } from '@tailrace/functions/l4lb';
import { connectFrom, override, pipeline } from 'tailrace';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { numberedLoad } from '../examples/l4lb/load.ts';
import {
  type BalancedNetwork,
  balancedNetwork,
  connections,
  type RealName,
  realsOf,
  request,
  SOURCE,
  TCP_PORT,
  UDP_PORT,
  VIP,
} from './balanced-network.ts';
import { stopLeft } from './pipeline-objects.ts';

const name = `restarted-${process.pid}`;
let network: BalancedNetwork;
beforeAll(async () => {
  network = await balancedNetwork();
});
afterAll(() => network[Symbol.asyncDispose]());
const children = new Set<ChildProcess>();
afterEach(async () => {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) await killed(child);
  await stopLeft(name);
});

const check = { port: TCP_PORT };
const web = (...reals: readonly RealName[]): VipOptions => ({ address: VIP, port: TCP_PORT, protocol: 'tcp', reals: realsOf(...reals) });
const echo = (...reals: readonly RealName[]): VipOptions => ({ ...web(...reals), port: UDP_PORT, protocol: 'udp', health: check });
const side: VipOptions = { ...web('real3', 'real4'), port: 8080, health: check };
const weighed = (vip: VipOptions): VipOptions => ({ ...vip, reals: vip.reals?.map((real, i) => ({ ...real, weight: 1 + 3 * i })) ?? [] });

const configs: readonly (readonly [what: string, vips: readonly VipOptions[]])[] = [
  ['the first one', [web('real1', 'real2', 'real3'), side, echo('real1', 'real2', 'real3')]],
  ['the same', [web('real1', 'real2', 'real3'), side, echo('real1', 'real2', 'real3')]],
  ['in another order', [echo('real3', 'real2', 'real1'), web('real2', 'real3', 'real1'), side]],
  ['a vip fewer, a real more', [web('real4', 'real1', 'real2', 'real3'), echo('real1', 'real2', 'real3', 'real4')]],
  [
    'other weights, a vip more in front',
    [side, weighed(web('real4', 'real1', 'real2', 'real3')), weighed(echo('real1', 'real2', 'real3', 'real4'))],
  ],
];
/** As the last one, without a real. */
const last = [web('real4', 'real2', 'real3'), echo('real2', 'real3', 'real4')];

test('kill -9, and another configuration: every packet finds a real, and connections stay at theirs', { timeout: 90_000 }, async () => {
  const { client } = network.hosts;
  let child = await started(configs[0]?.[1] ?? []);
  const open = await connections(client, 16);
  const udp = await numberedLoad(client, VIP, UDP_PORT);
  const failures: unknown[] = [];
  let [asked, made] = [0, 0];
  let [isSteady, isFresh] = [true, true];
  const steady = Promise.all(
    open.map(async ({ connection, real }) => {
      while (isSteady) {
        const { name } = await connection.request('/');
        if (name !== real) failures.push(`a connection to ${real} came to ${name}`);
        asked += 1;
        await sleep(10);
      }
    }),
  ).catch((error: unknown) => failures.push(error));
  const newOnes = (async () => {
    const pending = new Set<Promise<unknown>>();
    while (isFresh) {
      const one = request(client).then(
        () => (made += 1),
        (error: unknown) => failures.push(error),
      );
      pending.add(one);
      void one.finally(() => pending.delete(one));
      await sleep(5);
    }
    await Promise.all(pending);
  })();

  for (const [what, vips] of configs.slice(1)) {
    await sleep(Math.random() * 200);
    await killed(child);
    await sleep(Math.random() * 100);
    child = await started(vips, what);
    expect(failures, what).toEqual([]);
  }
  isSteady = false;
  await steady;
  for (const { connection } of open) connection.close();
  const { sent, missing } = await udp.end();
  await killed(child);

  const balancer = l4lb({ source: SOURCE, vips: last }).on({ notVip: 'next' });
  const { namespace } = network.hosts.lb;
  await using running = await pipeline(name, { xdp: [balancer] }).run(network.engine(), {
    persist: true,
    services: [override(HealthChecker, tcpHealth({ intervalMs: 50, connect: connectFrom(namespace) })), network.nextHops],
  });
  await sleep(200);
  isFresh = false;
  await newOnes;
  const stats = running.stats().xdp;
  const state = running.controller(balancer).state();
  await running.stop();

  expect(failures).toEqual([]);
  expect(missing).toEqual([]);
  expect([asked > 500, made > 200, sent > 200]).toEqual([true, true, true]);
  expect([stats['l4lb.pick'].exits.noReal, stats['l4lb.pick'].misses, stats['l4lb.vip'].exits.malformed]).toEqual([0n, 0n, 0n]);
  expect(state.map(({ name, reals }) => [name, reals.map(({ address, slots }) => [address, slots > 0])])).toEqual(
    [`${VIP}:${TCP_PORT}/tcp`, `${VIP}:${UDP_PORT}/udp`].map((vip, i) => [vip, last[i]?.reals?.map(({ address }) => [address, true])]),
  );
});

/** A process whose reals are all up. */
async function started(vips: readonly VipOptions[], what = 'the first one'): Promise<ChildProcess> {
  const file = `${import.meta.dirname}/kept-balancer-process.ts`;
  const child = network.hosts.lb.spawn(process.execPath, [file, name, JSON.stringify(vips)], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  const wanted = `up ${vips
    .map(({ reals = [] }) =>
      reals
        .map(({ address }) => address)
        .sort()
        .join(),
    )
    .join(' ')}`;
  if (child.stdout === null) throw new TypeError('no output');
  for await (const line of createInterface(child.stdout)) if (line === wanted) return child;
  throw new TypeError(`the process of ${what} ended with ${child.exitCode}`);
}

async function killed(child: ChildProcess): Promise<void> {
  expect(child.exitCode).toBeNull();
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
