/**
 * A filter and a policy of a persistent pipeline are left and run again, with the same lists and others, while clients go on: what is
 * let in before and after is never denied in between, and what is not never gets through.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { acl } from '@tailrace/functions/acl';
import { type PolicyEndpoint, type PolicyRule, policy } from '@tailrace/functions/policy';
import { topology } from '@tailrace/testing';
import { kernel, pipeline } from 'tailrace';
import { afterEach, expect, test } from 'vitest';
import { numberedLoad } from '../examples/l4lb/load.ts';
import { stopLeft } from './pipeline-objects.ts';

const name = `lists-${process.pid}`;
const SERVER = '10.0.0.2';
const [OPEN, SHUT, WEB] = [7, 9, 8080];

afterEach(async () => {
  await stopLeft(name);
});

const udp: PolicyRule = { direction: 'ingress', peer: '10.0.0.0/24', protocol: 'udp', ports: OPEN };
const tcp: PolicyRule = { direction: 'ingress', protocol: 'tcp', ports: WEB };
const elsewhere: PolicyEndpoint = { name: 'elsewhere', address: '10.0.0.9', rules: [{ direction: 'ingress' }] };
const many = Array.from(
  { length: 200 },
  (_, i): PolicyRule => ({ direction: 'egress', peer: `10.${i}.0.0/16`, protocol: 'tcp', ports: i + 1 }),
);

const lists: readonly { readonly endpoints: readonly PolicyEndpoint[]; readonly blocked: readonly string[] }[] = [
  { endpoints: [{ name: 'web', address: SERVER, rules: [udp, tcp] }], blocked: ['10.0.0.66'] },
  { endpoints: [{ name: 'web', address: SERVER, rules: [udp, tcp] }], blocked: ['10.0.0.66'] },
  {
    endpoints: [elsewhere, { name: 'www', address: [SERVER, 'fd00::2'], rules: [tcp, ...many, udp] }],
    blocked: ['192.0.2.0/24', '10.0.0.66'],
  },
  {
    endpoints: [{ name: 'web', address: SERVER, rules: [{ ...udp, peer: '10.0.0.0/8' }, tcp] }, elsewhere],
    blocked: ['10.0.0.64/30', '10.0.0.66'],
  },
  { endpoints: [{ name: 'web', address: SERVER, rules: [udp, tcp] }], blocked: ['10.0.0.66'] },
];

test('nothing that is let in is denied meanwhile, and nothing gets through that is not', { timeout: 60_000 }, async () => {
  await using network = await topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24', '10.0.0.66/24'] },
          { host: 'server', addresses: [`${SERVER}/24`], xdp: true },
        ],
      },
    ],
  });
  const { client, server } = network.hosts;
  await server.http({ port: WEB });
  const [open, shut] = [await server.udpEcho({ port: OPEN }), await server.udpEcho({ port: SHUT })];
  const run = async ({ endpoints, blocked }: (typeof lists)[number]) => {
    const [filter, guard] = [acl({ blocked }), policy({ endpoints }).on({ denied: 'drop' })];
    const running = await pipeline(name, { xdp: [filter], tcIngress: [guard], tcEgress: [guard] }).run(
      kernel({ interfaces: ['client'], netns: server.namespace }),
      { persist: true },
    );
    return { running, filter: running.controller(filter), guard: running.controller(guard) };
  };
  let { running, filter, guard } = await run(lists[0] as (typeof lists)[number]);
  const load = await numberedLoad(client, SERVER, OPEN);
  const [blocked, fresh] = [await client.udp({ address: '10.0.0.66' }), new Set<Promise<unknown>>()];
  const connection = await client.connectHttp(`http://${SERVER}:${WEB}/`);
  let [isGoing, asked, knocked] = [true, 0, 0];
  const failures: unknown[] = [];
  const going = (async () => {
    while (isGoing) {
      await blocked.send('let me in', SERVER, OPEN);
      await using knocker = await client.udp({ address: '10.0.0.1' });
      await knocker.send('is somebody there?', SERVER, SHUT);
      knocked += 1;
      const one = client.request(`http://${SERVER}:${WEB}/`).catch((error: unknown) => failures.push(error));
      fresh.add(one);
      void one.finally(() => fresh.delete(one));
      await connection.request('/');
      asked += 1;
      await sleep(5);
    }
    await Promise.all(fresh);
  })().catch((error: unknown) => failures.push(error));

  for (const list of lists.slice(1)) {
    await sleep(100);
    await running.leave();
    ({ running, filter, guard } = await run(list));
    await guard.settled();
    expect(guard.endpoints).toEqual(list.endpoints);
    expect([...filter.blocked].sort()).toEqual(list.blocked.map((prefix) => (prefix.includes('/') ? prefix : `${prefix}/32`)).sort());
  }
  isGoing = false;
  await going;
  const { sent, missing } = await load.end();
  const denials = guard.denials();
  const hits = filter.hits();
  await running.stop();

  expect(failures).toEqual([]);
  expect(missing).toEqual([]);
  expect([shut.received, open.received]).toEqual([0, sent]);
  expect([asked > 20, knocked > 20]).toEqual([true, true]);
  expect(denials).toMatchObject([{ endpoint: 'web', reason: 'rule', packets: BigInt(knocked) }]);
  expect(hits).toMatchObject([{ prefix: '10.0.0.66/32' }]);
  // other entries of its own address count as well, longest first: this one has been there all the time
  expect(hits[0]?.packets).toBe(BigInt(knocked));
});
