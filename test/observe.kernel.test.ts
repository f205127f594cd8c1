/** Traces, drops and counters that are switched on and off under real traffic at all three hooks: nothing is lost by it. */
import { topology } from '@tailrace/testing';
import { kernel, type TracedPath } from 'tailrace';
import { expect, test } from 'vitest';
import { edge, Probes, SIDE } from './canary-edge.ts';

const CHANGES = 24;
/** In turn: on, of more packets, with their bytes, and off; what is dropped beside them. */
const asked = [
  { trace: { every: 10 } },
  { trace: { every: 3 }, drops: true },
  { trace: { every: 3, headerBytes: 64 } },
  { counters: false },
  { trace: false, counters: true },
  { drops: false },
] as const;

test.each([false, true])('no packet is lost, none missed; crossing: %s', { timeout: 120_000 }, async (crossing) => {
  await using network = await topology({
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
  await using probes = await Probes.start(network, { first: 20_000, count: 500 });
  await using running = await edge(SIDE.present, crossing).run(kernel({ interfaces: ['client'], netns: network.hosts.server.namespace }));
  const hooks = new Set<string>();
  const torn: TracedPath[] = [];
  const stages = { xdp: 'tally', tcIngress: 'guard', tcEgress: 'tally' } as const;
  for (let i = 0; i < CHANGES; i++) {
    const next = asked[i % asked.length] as (typeof asked)[number];
    await running.observe(next);
    if ('trace' in next && next.trace !== false)
      running.trace$.subscribe((path) => {
        hooks.add(path.hook);
        if (path.verdict !== 'pass' || path.steps[0]?.stage !== stages[path.hook]) torn.push(path);
      });
    await probes.more(100);
  }
  await probes.pause();
  expect(probes.missing).toBe(0);
  expect(hooks).toEqual(new Set(['xdp', 'tcIngress', 'tcEgress']));
  expect(torn).toEqual([]);
  const { roots, ...chains } = running.stats();
  const none = { misses: 0n, withoutMetadata: 0n };
  expect(roots).toEqual({ xdp: none, tcIngress: none, tcEgress: none });
  for (const hook of ['xdp', 'tcIngress', 'tcEgress'] as const)
    expect(Object.values(chains[hook]).filter(({ misses }) => misses > 0n)).toEqual([]);
});
