/** Sub-chains within sub-chains, and one function in a chain twice: which way packets take. */
import type { Engine } from '@tailrace/bpf';
import { defineFunction, hash, stage, u8, u64 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { shown } from './path.suite.ts';
import { pipeline } from './pipeline.ts';

/** Leaves through `hit` where the TTL is that number. */
const on = <const N extends string>(name: N, ttl: number) =>
  stage({
    name,
    hook: 'xdp',
    uses: { ttl },
    program(ctx, { ttl }) {
      const ip = ctx.ipv4();
      return ip && ip.ttl === ttl ? ctx.exit('hit') : ctx.next();
    },
  });
/** Leaves through `hit` where the TTL has that bit. */
const bit = <const N extends string>(name: N, mask: number) =>
  stage({
    name,
    hook: 'xdp',
    uses: { mask },
    program(ctx, { mask }) {
      const ip = ctx.ipv4();
      return ip && (ip.ttl & mask) !== 0 ? ctx.exit('hit') : ctx.next();
    },
  });
const at = <const N extends string>(name: N) => stage({ name, hook: 'xdp', program: (ctx) => ctx.next() });
const frame = (ttl: number) => packet().ipv4({ ttl }).udp().bytes();

/** Counts packets of one TTL, in a map of its own. */
const counter = <const N extends string>(name: N, ttl: number) => {
  const hits = hash({ name: 'hits', key: u8, value: u64, maxEntries: 4 });
  const look = stage({
    name: 'look',
    hook: 'xdp',
    uses: { hits, ttl },
    program(ctx, { hits, ttl }) {
      const ip = ctx.ipv4();
      if (!ip || ip.ttl !== ttl) return ctx.next();
      const known = hits.lookup(0);
      if (known) known.value += 1n;
      return ctx.exit('hit');
    },
  });
  const fn = defineFunction({
    name: 'counter',
    stages: { xdp: [look, at('after')] },
    controller: { needs: { hits }, create: ({ hits }) => ({ start: () => hits.set(0, 0n), count: () => hits.get(0) }) },
  });
  return fn.as(name);
};

/** The cases, on an engine. */
export function nestedSuite(engine: Engine): void {
  test('sub-chains behind exits within sub-chains, three deep, each with an end of its own', async () => {
    const inner = bit('inner', 4).on({ hit: [at('deep'), 'drop'] });
    const middle = bit('middle', 2).on({ hit: [inner, at('beside'), 'tx'] });
    const nested = pipeline('nested', { xdp: [bit('outer', 1).on({ hit: [middle, at('behind'), 'next'] }), at('last')] });
    await using running = await nested.run(engine);
    const cases: readonly (readonly [ttl: number, verdict: string, path: string])[] = [
      [8, 'pass', 'outer next, last next'],
      [1, 'pass', 'outer hit, middle next, behind next, last next'],
      [3, 'tx', 'outer hit, middle hit, inner next, beside next'],
      [7, 'drop', 'outer hit, middle hit, inner hit, deep next'],
    ];
    for (const [ttl, verdict, path] of cases) {
      const result = await running.run(frame(ttl));
      expect([ttl, result.verdict, shown(result.path)]).toEqual([ttl, verdict, path]);
    }
  });

  test('one function twice in a chain: constants, maps, controllers and wiring of its own each', async () => {
    const [east, west] = [counter('east', 10), counter('west', 20)];
    const twice = pipeline('twice', {
      xdp: [
        east.on({ hit: [at('seen'), 'next'] }),
        on('gate', 30).on({ hit: west.on({ hit: 'tx' }) }),
        west.on({ hit: 'drop' }).as('again'),
      ],
    });
    await using running = await twice.run(engine);
    const path = async (ttl: number) => {
      const result = await running.run(frame(ttl));
      return `${result.verdict}: ${shown(result.path)}`;
    };
    running.controller(east).start();
    running.controller(west).start();
    expect(await path(10)).toBe('pass: east.look hit, seen next, gate next, again.look next, again.after next');
    expect(await path(20)).toBe('drop: east.look next, east.after next, gate next, again.look hit');
    expect(await path(30)).toBe('pass: east.look next, east.after next, gate hit, west.look next, west.after next');
    expect([running.controller(east).count(), running.controller(west).count()]).toEqual([1n, 1n]);
  });
}
