/** The balancer over IPv4 and IPv6 in every combination of client and real, on real connections, as both ends see it. */
import { HealthChecker, type HealthTarget, l4lb, type RealOptions, tcpHealth } from '@tailrace/functions/l4lb';
import { BehaviorSubject, filter, firstValueFrom } from 'rxjs';
import { connectFrom, override, pipeline } from 'tailrace';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  addressOf,
  type DualNetwork,
  dualNetwork,
  type Family,
  NARROW,
  REALS,
  type RealName,
  SOURCE,
  UDP_PORT,
  urlOf,
  VIP,
  vipsOf,
} from './dual-network.ts';

const SIZE = 10 << 20;

// Everybody remembers the MTU of paths for ten minutes: each test has a network of its own.
let network: DualNetwork;
beforeEach(async () => {
  network = await dualNetwork();
});
afterEach(() => network[Symbol.asyncDispose]());

/** Everybody is well until told otherwise. */
class ToldHealth implements HealthChecker {
  readonly #targets = new Map<string, BehaviorSubject<boolean>>();

  watch({ address }: HealthTarget): BehaviorSubject<boolean> {
    const known = this.#targets.get(address) ?? new BehaviorSubject(true);
    this.#targets.set(address, known);
    return known;
  }
}

/** A balancer with these reals, all of them active. */
async function balanced(reals: readonly RealOptions[], health: HealthChecker = new ToldHealth()) {
  const balancer = l4lb({ source: SOURCE, vips: vipsOf(reals) }).on({ notVip: 'next' });
  const running = await pipeline('edge', { xdp: [balancer] }).run(network.engine(), {
    services: [override(HealthChecker, health), network.nextHops],
  });
  const controller = running.controller(balancer);
  const slotsAt = async (...addresses: readonly string[]): Promise<void> => {
    const wanted = [...addresses].sort().join();
    const withSlots = (list: readonly { readonly address: string; readonly slots: number }[]): string =>
      list
        .flatMap(({ address, slots }) => (slots > 0 ? [address] : []))
        .sort()
        .join();
    await firstValueFrom(controller.state$.pipe(filter((vips) => vips.every(({ reals }) => withSlots(reals) === wanted))));
  };
  await slotsAt(...reals.map(({ address }) => address));
  return { running, controller, slotsAt, stats: () => running.stats().xdp };
}

const realsOf = (family: Family): { readonly address: string }[] => REALS.map((name) => ({ address: addressOf(name, family) }));
const ask = async (family: Family): Promise<string> => (await network.hosts.client.request(urlOf(family))).name ?? '?';

async function askMany(family: Family, count: number): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const name = await ask(family);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** UDP flows of a family that stay open; `ask` tells who answers each. */
async function udpFlows(family: Family, count: number) {
  const address = family === 4 ? '0.0.0.0' : '::';
  const sockets = await Promise.all(Array.from({ length: count }, () => network.hosts.client.udp({ address })));
  return () =>
    Promise.all(
      sockets.map(async (socket) => {
        await socket.send('who?', VIP[family], UDP_PORT);
        return (await socket.receive()).text.split(' ')[0];
      }),
    );
}

describe.each([
  [4, 4],
  [6, 4],
  [4, 6],
  [6, 6],
] as const)('IPv%i to reals with IPv%i', (family, outer) => {
  test('10 MB go both ways whole, over TCP; UDP flows stay where they are', async () => {
    const { running, stats } = await balanced(realsOf(outer));
    await using _running = running;
    const counts = await askMany(family, 30);
    expect([...counts.keys()].sort()).toEqual([...REALS]);

    const uploaded = await network.hosts.client.upload(`${urlOf(family)}/`, SIZE);
    expect(REALS).toContain(uploaded.name);
    // segments of 1,500 bytes were refused at first: the client has learnt what fits
    const answered = family === 4 ? 'l4lb.tooBig' : 'l4lb.tooBig6';
    expect(stats()[answered].verdicts.tx).toBeGreaterThan(0n);

    const { body } = await network.hosts.client.request(`${urlOf(family)}/bytes/${SIZE}`, { timeoutMs: 10_000 });
    expect(body).toHaveLength(SIZE);
    expect(body.every((byte, i) => byte === (i & 255))).toBe(true);
    // and the reals have learnt it of their own way, by errors that came to the vip
    const { next, exits } = stats()['l4lb.icmpError'];
    expect(family === 4 ? next : (exits.ipv6 ?? 0n)).toBeGreaterThan(0n);
    expect(exits.noFlow).toBe(0n);

    const flows = await udpFlows(family, 24);
    const homes = await flows();
    expect(new Set(homes).size).toBe(3);
    expect(await flows()).toEqual(homes);
    const encapsulated = outer === 6 ? 'l4lb.encap6' : family === 4 ? 'l4lb.encap' : 'l4lb.encap6in4';
    expect(stats()[encapsulated].verdicts.redirect).toBeGreaterThan(BigInt(Math.trunc(SIZE / 1_500)));
    expect(stats()[encapsulated].verdicts.drop).toBe(0n);
  });
});

test('echo requests to vips are answered, whoever asks; other addresses answer for themselves', async () => {
  const { running, stats } = await balanced(realsOf(6));
  await using _running = running;
  const { client, router } = network.hosts;
  let asked = 0n;
  for (const family of [4, 6] as const)
    for (const host of [client, router])
      for (const [sequence, size] of [0, 1, 56, 1_300].entries()) {
        const answer = await host.ping(VIP[family], { sequence, payload: size });
        expect(answer).toMatchObject({ kind: 'reply', from: VIP[family], payload: Uint8Array.from({ length: size }, (_, i) => i) });
        asked++;
      }
  expect(stats()['l4lb.echo'].verdicts.tx).toBe(asked);
  for (const address of ['10.0.0.1', 'fd00::1']) expect(await client.ping(address)).toMatchObject({ kind: 'reply', from: address });
  expect(stats()['l4lb.echo'].packets).toBe(asked);
});

test('a narrow link is found out by the real that a flow is at, and by no other', async () => {
  const { running, stats } = await balanced([...realsOf(4), ...realsOf(6)]);
  await using _running = running;
  for (const family of [4, 6] as const) {
    const connection = await network.hosts.client.connectHttp(urlOf(family));
    const { name } = await connection.request('/');
    const home = network.hosts[name as RealName];
    using atHome = home.frames('lb');
    using atOthers = new DisposableStack();
    const others = REALS.filter((other) => other !== name).map((other) => atOthers.use(network.hosts[other].frames('lb')));
    const { body } = await connection.request('/bytes/300000');
    expect(body).toHaveLength(300_000);
    // the error lies behind what decap left of the frame: IPv4 or IPv6, then its type
    const isError = (frame: Uint8Array): boolean =>
      family === 4 ? frame[23] === 1 && frame[34] === 3 : frame[20] === 58 && frame[54] === 2;
    const told = await atHome.receive({ where: isError });
    const view = new DataView(told.buffer, told.byteOffset);
    expect(family === 4 ? view.getUint16(40) : view.getUint32(58)).toBe(NARROW);
    for (const other of others) expect(await other.collect({ where: isError, durationMs: 20 })).toEqual([]);
  }
  expect(stats()['l4lb.icmpError'].exits.noFlow).toBe(0n);
});

test('over IPv6 a real drains, and dies, as over IPv4', async () => {
  const { namespace } = network.hosts.lb;
  const health = tcpHealth({ intervalMs: 20, timeoutMs: 500, rise: 2, fall: 3, connect: connectFrom(namespace, 500) });
  const { running, controller, slotsAt } = await balanced(realsOf(6), health);
  await using _running = running;
  const open = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const connection = await network.hosts.client.connectHttp(urlOf(6));
      return { connection, real: (await connection.request('/')).name };
    }),
  );
  const flows = await udpFlows(6, 24);
  const homes = await flows();
  expect(homes.filter((home) => home === 'real2').length).toBeGreaterThan(0);

  controller.drain(addressOf('real2', 6));
  expect([...(await askMany(6, 20)).keys()].sort()).toEqual(['real1', 'real3']);
  for (const { connection, real } of open) expect((await connection.request('/')).name).toBe(real);
  expect(await flows()).toEqual(homes);
  controller.restore(addressOf('real2', 6));
  expect((await askMany(6, 30)).get('real2')).toBeGreaterThan(0);

  await network.servers.get('real2')?.close();
  await slotsAt(addressOf('real1', 6), addressOf('real3', 6));
  expect([...(await askMany(6, 20)).keys()].sort()).toEqual(['real1', 'real3']);
  for (const { connection, real } of open) if (real !== 'real2') expect((await connection.request('/')).name).toBe(real);
  const anew = await flows();
  expect(new Set(anew)).toEqual(new Set(['real1', 'real3']));
  expect(anew.filter((_, i) => homes[i] !== 'real2')).toEqual(homes.filter((home) => home !== 'real2'));
  for (const { connection } of open) connection.close();
});
