/**
 * Canaries under real traffic at all three hooks: as many flows as were asked for, each on its side for as long as the canary runs; the
 * counters of both sides make up what was sent, and nothing is lost when a canary begins, is promoted or rolled back.
 */
import { topology } from '@tailrace/testing';
import { type KeyedHandle, kernel, stage } from 'tailrace';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { binomialBounds } from './binomial.ts';
import { type Answered, edge, flows, PORT, Probes, SIDE } from './canary-edge.ts';

const hooks = ['xdp', 'tcIngress', 'tcEgress'] as const;
/** Flows of UDP, by source port. */
const PORTS = { first: 20_000, count: 4_000 } as const;

const makeNetwork = () =>
  topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24'] },
          { host: 'server', addresses: ['10.0.0.2/24'], xdp: true },
        ],
      },
    ],
  });
let network: Awaited<ReturnType<typeof makeNetwork>>;
beforeEach(async () => {
  network = await makeNetwork();
  await network.hosts.server.http({ port: PORT.http });
});
afterEach(() => network.close());

const engine = () => kernel({ interfaces: ['client'], netns: network.hosts.server.namespace });
const url = `http://10.0.0.2:${PORT.http}/`;

/** The side of each flow, by port. Fails where one was on two, at any hook and any time. */
function sidesOf(answered: readonly Answered[]): ReadonlyMap<number, number> {
  const sides = new Map<number, number>();
  const torn = answered.filter(({ port, xdp, tcIngress, tcEgress }) => {
    const side = sides.get(port) ?? xdp;
    sides.set(port, side);
    return xdp !== side || tcIngress !== side || tcEgress !== side;
  });
  expect(torn).toEqual([]);
  return sides;
}

type FlowHandle = KeyedHandle<{ readonly port: number; readonly hook: number; readonly side: number }, number>;
const keysOf = (map: FlowHandle) => map.getAll().map(([key]) => key);

/** The same for TCP, from the pipelines' map. */
function tcpSidesOf(map: FlowHandle): ReadonlyMap<number, number> {
  const seen = Map.groupBy(keysOf(map), ({ port }) => port);
  return new Map(
    [...seen].map(([port, entries]) => {
      expect(entries.map(({ hook }) => hook).sort(), `port ${port}`).toEqual([1, 2, 3]);
      const [side, ...others] = new Set(entries.map((entry) => entry.side));
      expect(others, `port ${port}`).toEqual([]);
      return [port, side ?? 0];
    }),
  );
}

const countOf = (sides: ReadonlyMap<number, number>, side: number): number => [...sides.values()].filter((own) => own === side).length;

test.each([
  { crossing: false, share: 0.2 },
  { crossing: true, share: 0.5 },
  { crossing: false, share: 0.01 },
])('$share of all flows, each on one side at every hook, crossing: $crossing', { timeout: 120_000 }, async ({ crossing, share }) => {
  await using probes = await Probes.start(network, PORTS);
  await using running = await edge(SIDE.present, crossing).run(engine());
  await probes.more(100);
  await using trial = await running.canary(edge(SIDE.canary, crossing), { share });
  await probes.pause();
  probes.take();
  running.map(flows).deleteMany(keysOf(running.map(flows)));
  const [before, sent] = [trial.stats(), probes.sent];
  probes.resume();
  // each flow three times
  await probes.more(3 * PORTS.count);
  for (let i = 0; i < 60; i++) expect((await network.hosts.client.request(url)).text).toBe('server');
  await probes.pause();

  const sides = sidesOf(probes.take());
  expect(sides.size).toBe(PORTS.count);
  const expected = binomialBounds(PORTS.count, share);
  expect(countOf(sides, SIDE.canary)).toBeGreaterThanOrEqual(expected.low);
  expect(countOf(sides, SIDE.canary)).toBeLessThanOrEqual(expected.high);
  const tcp = tcpSidesOf(running.map(flows));
  expect(tcp.size).toBe(60);
  expect(countOf(tcp, SIDE.canary)).toBeLessThanOrEqual(binomialBounds(60, share).high);
  expect(countOf(tcp, SIDE.canary)).toBeGreaterThanOrEqual(binomialBounds(60, share).low);

  // side by side, the counters make up all that was sent
  const after = trial.stats();
  for (const hook of hooks) {
    const probesOn = (side: 'present' | 'canary') =>
      Number(after[side][hook].tally.exits.probe ?? 0n) - Number(before[side][hook].tally.exits.probe ?? 0n);
    expect(probesOn('present') + probesOn('canary'), hook).toBe(probes.sent - sent);
    expect(probesOn('canary') / (probes.sent - sent)).toBeCloseTo(countOf(sides, SIDE.canary) / PORTS.count, 1);
    expect([after.present[hook].tally.misses, after.canary[hook].tally.misses]).toEqual([0n, 0n]);
  }
  expect(probes.missing).toBe(0);
});

test('only flows that a stage picks, by a stage for each kind of hook', { timeout: 60_000 }, async () => {
  const pick = stage({
    name: 'pick',
    hook: 'xdp',
    program(ctx) {
      const udp = ctx.udp();
      return udp && (udp.sport === 20_007 || udp.dport === 20_007) ? ctx.exit('canary') : ctx.next();
    },
  });
  await using probes = await Probes.start(network, { first: PORTS.first, count: 50 });
  await using running = await edge(SIDE.present, false).run(engine());
  await using trial = await running.canary(edge(SIDE.canary, false), { match: [pick, pick.at('tc')] });
  await probes.pause();
  probes.take();
  probes.resume();
  await probes.more(1_000);
  await network.hosts.client.request(url);
  await probes.pause();
  const sides = sidesOf(probes.take());
  expect([...sides].filter(([, side]) => side === SIDE.canary)).toEqual([[20_007, SIDE.canary]]);
  expect(trial.stats().canary.xdp.tally.exits.tcp).toBe(0n);
});

test.each([false, true])(
  'promoted and rolled back under traffic: nothing is lost, crossing: %s',
  { timeout: 120_000 },
  async (crossing) => {
    const CHANGES = 24;
    await using probes = await Probes.start(network, PORTS);
    await using running = await edge(SIDE.present, crossing).run(engine());
    const shapes = [edge(SIDE.canary, crossing), edge(SIDE.present, crossing)] as const;
    using connection = await network.hosts.client.connectHttp(url);
    let [now, going]: [number, boolean] = [SIDE.present, true];
    const uploads = (async () => {
      let count = 0;
      for (; going; count++) expect((await connection.request('/', { body: new Uint8Array(100_000) })).text).toBe('100000');
      return count;
    })();
    for (let i = 0; i < CHANGES; i++) {
      const trial = await running.canary(shapes[now === SIDE.present ? 0 : 1], { share: 0.5 });
      await probes.more(200);
      if (i % 3 === 2) await trial.rollBack();
      else {
        await trial.promote();
        now = now === SIDE.present ? SIDE.canary : SIDE.present;
      }
      await probes.pause();
      probes.take();
      probes.resume();
      await probes.more(50);
      await probes.pause();
      expect(new Set(sidesOf(probes.take()).values())).toEqual(new Set([now]));
      probes.resume();
    }
    going = false;
    expect(await uploads).toBeGreaterThan(CHANGES);
    await probes.pause();
    const { roots, ...chains } = running.stats();
    const none = { misses: 0n, withoutMetadata: 0n };
    expect(roots).toEqual({ xdp: none, tcIngress: none, tcEgress: none });
    for (const hook of hooks) expect(Object.values(chains[hook]).filter(({ misses }) => misses > 0n)).toEqual([]);
  },
);
