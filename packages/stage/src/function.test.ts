import { ContainerModule } from 'inversify';
import { describe, expect, test } from 'vitest';
import { defineFunction, withTargets } from './function.ts';
import { arrayMap } from './map.ts';
import { array, bool, struct, u8, u32, u64 } from './schema.ts';
import { stage } from './stage.ts';
import { sumValues } from './sum.ts';
import { override, token } from './token.ts';

interface Clock {
  readonly now: () => number;
}
const Clock = token<Clock>('Clock');
const counts = arrayMap({ name: 'counts', value: u32, maxEntries: 1 });
const vip = stage({
  name: 'vip',
  hook: 'xdp',
  uses: { counts },
  program: (ctx) => (ctx.length > 64 ? ctx.exit('other') : ctx.exit('miss')),
});
const pick = stage({ name: 'pick', hook: 'xdp', program: (ctx) => ctx.next() });
const encap = stage({ name: 'encap', hook: 'xdp', program: (ctx) => ctx.tx() });
const reply = stage({ name: 'reply', hook: 'tcEgress', program: (ctx) => ctx.pass() });
const services = new ContainerModule(() => undefined);
const lb = defineFunction({
  name: 'l4lb',
  stages: { xdp: [vip.on({ miss: [pick, 'drop'] }), encap], tcEgress: [reply] },
  controller: { needs: { counts, clock: Clock }, create: ({ counts, clock }) => ({ size: counts.size, at: clock.now() }) },
  services,
});

describe('a network function', () => {
  test('is data', () => {
    expect(lb).toMatchObject({ kind: 'function', name: 'l4lb', wiring: {}, services });
    expect(lb.stages.xdp?.map(({ name }) => name)).toEqual(['vip', 'encap']);
    expect(lb.controller?.needs).toEqual({ counts, clock: Clock });
    expect(lb.controller?.create({ counts: { size: 1 }, clock: { now: () => 7 } })).toEqual({ size: 1, at: 7 });
    for (const value of [lb, lb.stages, lb.stages.xdp, lb.controller]) expect(Object.isFrozen(value)).toBe(true);
    const bare = defineFunction({ name: 'bare', stages: { xdp: [pick] } });
    expect([bare.controller, bare.services]).toEqual([undefined, undefined]);
  });

  test('is renamed and wired as copies', () => {
    const east = lb.as('east').on({ other: 'next' });
    expect(east).toMatchObject({ name: 'east', wiring: { other: 'next' } });
    expect(east.stages).toBe(lb.stages);
    expect(lb).toMatchObject({ name: 'l4lb', wiring: {} });
  });

  test('gives its own stages under their names in a pipeline', () => {
    const own = lb.stage(vip);
    expect(own).toMatchObject({ name: 'l4lb.vip', wiring: { miss: [pick, 'drop'] } });
    expect(lb.as('east').stage(pick).name).toBe('east.pick');
    expect(() => lb.stage(reply.as('later') as never)).toThrow("'later' is not a stage of 'l4lb'");
    expect(withTargets(lb.stages.xdp ?? []).map(({ name }) => name)).toEqual(['vip', 'pick', 'encap']);
  });

  test.each<[string, () => unknown, string]>([
    [
      'name',
      () => defineFunction({ name: '4lb', stages: { xdp: [pick] } }),
      "stage: name '4lb', expected a letter, then letters, digits and '_'",
    ],
    [
      'chain',
      () => defineFunction({ name: 'x', stages: { xpd: [pick] } as never }),
      "function 'x': 'xpd' is not a chain, expected xdp, tcIngress, tcEgress, skSkb, skMsg, sockOps",
    ],
    [
      'hook',
      () => defineFunction({ name: 'x', stages: { xdp: [reply] } as never }),
      "function 'x': stage 'reply' has hook 'tcEgress'; 'xdp' is needed here",
    ],
    [
      'twice',
      () => defineFunction({ name: 'x', stages: { xdp: [pick, pick] } }),
      "function 'x': 'pick' is in xdp twice; name one with .as()",
    ],
    ['no stages', () => defineFunction({ name: 'x', stages: { xdp: [] } }), "function 'x': no stages for xdp, expected at least one"],
    ['no chains', () => defineFunction({ name: 'x', stages: {} }), "function 'x': no stages, expected at least one"],
    [
      'wiring',
      () => lb.on({ other: 'mirror' } as never),
      "exit 'other' of 'l4lb': 'mirror' is no verdict, expected next, pass, drop, tx, abort, a stage or a function",
    ],
    [
      'function as target',
      () => pick.on({ x: defineFunction({ name: 'tcOnly', stages: { tcEgress: [reply] } }) } as never),
      "exit 'x' of 'pick': 'tcOnly' has no stages for xdp",
    ],
  ])('refuses: %s', (_, make, message) => expect(make).toThrow(expect.objectContaining({ code: 'argument', message })));

  test('stands behind an exit', () => {
    const wired = lb.on({ other: 'next' });
    expect(vip.on({ miss: wired }).wiring.miss).toBe(wired);
  });
});

test('tokens are named classes, each its own', () => {
  expect([Clock.name, token<Clock>('Clock') === Clock]).toEqual(['Clock', false]);
  const now = { now: (): number => 1 };
  expect(override(Clock, now)).toEqual({ service: Clock, value: now });
  expect(() => token('')).toThrow('token: the name is empty, expected the name of the service');
});

test('values of all CPUs as one', () => {
  const Counters = struct({ packets: u64, drops: u32, up: bool, sizes: array(u8, 2) });
  const cpu = (packets: bigint, up: boolean) => ({ packets, drops: 3_000_000_000, up, sizes: [200, 1] });
  expect(sumValues(Counters, [cpu(2n ** 63n, false), cpu(2n ** 63n, true)])).toEqual({
    packets: 2n ** 64n,
    drops: 6_000_000_000,
    up: true,
    sizes: [400, 2],
  });
  expect(sumValues(u32, [1, 2])).toBe(3);
  expect(() => sumValues(u32, [])).toThrow('sum: no values, expected one for each CPU');
});
