/** Several workers: packets spread by flow over threads, per-CPU values real, shared maps safe, the same results as with one. */
import { setTimeout } from 'node:timers/promises';
import { ArgumentError } from '@tailrace/bpf';
import { hash, perCpuArray, stage, u32, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { userspace } from '@tailrace/userspace';
import { describe, expect, test } from 'vitest';
import type { Injected } from './injection.ts';
import { pipeline } from './pipeline.ts';
import type { TracedPathOf } from './running.ts';

const FLOWS = 97;
const PACKETS = 6_000;

const declareMaps = () => ({
  flows: hash({ name: 'flows', key: u32, value: u64, maxEntries: 256 }),
  total: hash({ name: 'total', key: u32, value: u64, maxEntries: 1 }),
  here: perCpuArray({ name: 'here', value: u64, maxEntries: 1 }),
});
const maps = declareMaps();

/** Counts every flow, all packets in one shared value, and all of each worker; sends every third flow back. */
const count = stage({
  name: 'count',
  hook: 'xdp',
  uses: maps,
  program(ctx, { flows, total, here }) {
    const ip = ctx.ipv4();
    const udp = ctx.udp();
    if (!ip || !udp) return ctx.drop();
    const mine = here.lookup(0);
    if (mine) mine.value += 1n;
    const all = total.lookup(0);
    if (all) all.value += 1n;
    const known = flows.lookup(ip.saddr);
    if (known) known.value += 1n;
    else flows.update(ip.saddr, 1n);
    ip.id = udp.sport;
    return udp.sport % 3 === 0 ? ctx.tx() : ctx.next();
  },
});
const edge = pipeline('edge', { xdp: [count] });

const frames = Array.from({ length: PACKETS }, (_, i) => {
  const flow = (i * 31) % FLOWS;
  return packet()
    .ipv4({ saddr: `10.0.0.${flow + 1}` })
    .udp({ sport: 1_000 + flow, dport: 53 })
    .payload(i % 200)
    .bytes();
});

async function outcome(workers: number) {
  await using running = await edge.run(userspace({ workers }));
  running.map(maps.total).set(0, 0n);
  const results: Injected[] = [];
  for await (const result of running.inject(frames)) results.push(result);
  return {
    results: results.map(({ index, verdict, packet }) => `${index} ${verdict} ${Buffer.from(packet).toString('hex')}`),
    flows: new Map(running.map(maps.flows).getAll()),
    total: running.map(maps.total).get(0),
    here: running.map(maps.here).get(0),
    stats: running.stats().xdp.count,
  };
}

describe.each([2, 3])('%i workers', (workers) => {
  test('do what one does: verdicts, bytes, maps, counters', async () => {
    const [one, many] = [await outcome(1), await outcome(workers)];
    expect(many.results).toEqual(one.results);
    expect(many.flows).toEqual(one.flows);
    expect(many.total).toBe(BigInt(PACKETS));
    expect(many.stats).toEqual(one.stats);
    expect(many.here).toHaveLength(workers);
    expect(many.here?.reduce((sum, value) => sum + value, 0n)).toBe(BigInt(PACKETS));
    // every thread had its share
    expect(many.here?.every((value) => value > BigInt(PACKETS / workers / 4))).toBe(true);
  });

  test('go on after a stage was swapped', async () => {
    await using running = await edge.run(userspace({ workers }));
    const dropAll = stage({ name: 'dropAll', hook: 'xdp', uses: maps, program: (ctx) => ctx.drop() });
    const verdicts = async (): Promise<ReadonlySet<string>> => {
      const seen = new Set<string>();
      for await (const { verdict } of running.inject(frames.slice(0, 300))) seen.add(verdict);
      return seen;
    };
    expect(await verdicts()).toEqual(new Set(['pass', 'tx']));
    await running.replace(count, dropAll);
    expect(await verdicts()).toEqual(new Set(['drop']));
    await running.replace(count, count);
    expect(await verdicts()).toEqual(new Set(['pass', 'tx']));
  });
});

test('packets are traced on every worker, in whole ways', async () => {
  await using running = await edge.run(userspace({ workers: 2 }), { observe: { trace: { every: 1 } } });
  const paths: TracedPathOf<{ xdp: 'count' }>[] = [];
  running.trace$.subscribe((path) => paths.push(path));
  const few = frames.slice(0, 1_000);
  const verdicts: Record<string, number> = {};
  for await (const { verdict } of running.inject(few)) verdicts[verdict] = (verdicts[verdict] ?? 0) + 1;
  for (const until = Date.now() + 5000; paths.length < few.length && Date.now() < until; ) await setTimeout(5);
  expect(running.stats().lost.trace).toBe(0n);
  expect(paths).toHaveLength(few.length);
  expect(new Set(paths.map(({ cpu }) => cpu))).toEqual(new Set([0, 1]));
  const told: Record<string, number> = {};
  for (const { verdict, steps } of paths) {
    told[verdict] = (told[verdict] ?? 0) + 1;
    expect(steps.map(({ stage }) => stage)).toEqual(['count']);
  }
  expect(told).toEqual(verdicts);
});

test('what cannot be', () => {
  expect(() => userspace({ workers: 0 })).toThrow(ArgumentError);
  expect(() => userspace({ workers: 65 })).toThrow('workers is 65, expected 1 to 64');
  expect(() => userspace({ workers: 2, cpus: 1 })).toThrow('cpus is 1, expected 2 to 64');
  expect(() => userspace({ workers: 2, mode: 'interpreter' })).toThrow('the interpreter runs with one worker');
});
