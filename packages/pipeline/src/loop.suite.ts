/** Chains with loops: packets go round as long as their stages say so, and at most as often as there are tail calls. */
import type { Engine } from '@tailrace/bpf';
import { backTo, defineFunction, fuse, stage, u8, u32 } from '@tailrace/stage';
import { packet } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { shown } from './path.suite.ts';
import { pipeline } from './pipeline.ts';

const start = stage({
  name: 'start',
  hook: 'xdp',
  writes: { rounds: u32 },
  program(ctx) {
    ctx.meta.rounds = 0;
    return ctx.next();
  },
});
/** Goes round as often as the TTL says. */
const turn = stage({
  name: 'turn',
  hook: 'xdp',
  reads: { rounds: u32 },
  writes: { rounds: u32 },
  onMiss: 'drop',
  program(ctx) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.abort();
    if (ctx.meta.rounds === ip.ttl) return ctx.next();
    ctx.meta.rounds = (ctx.meta.rounds + 1) >>> 0;
    return ctx.exit('again');
  },
});
const odd = stage({
  name: 'odd',
  hook: 'xdp',
  reads: { rounds: u32 },
  program: (ctx) => ((ctx.meta.rounds & 1) === 1 ? ctx.exit('odd') : ctx.next()),
});
const last = stage({ name: 'last', hook: 'xdp', program: (ctx) => ctx.tx() });
const frame = (ttl: number) => packet().ipv4({ ttl }).udp().bytes();

/** The cases, on an engine. */
export function loopSuite(engine: Engine): void {
  test('a packet goes round until its stage lets it on; the path tells every round', async () => {
    await using running = await pipeline('loop', { xdp: [start, turn.on({ again: backTo('turn') }), last] }).run(engine);
    for (const rounds of [0, 1, 5, 30]) {
      const { verdict, path } = await running.run(frame(rounds));
      expect([verdict, shown(path)]).toEqual([
        'tx',
        ['start next', ...Array(rounds).fill('turn again'), 'turn next', 'last tx'].join(', '),
      ]);
    }
    const { turn: counted, last: answered } = running.stats().xdp;
    expect(counted).toMatchObject({ packets: 40n, exits: { again: 36n }, next: 4n, misses: 0n });
    expect(answered.packets).toBe(4n);
  });

  test('the 34th tail call falls through, is a miss, and onMiss decides', async () => {
    await using running = await pipeline('loop', { xdp: [start, turn.on({ again: backTo('turn') }), last] }).run(engine);
    // root, start and 31 rounds: 33 tail calls, and one more to `last`
    expect((await running.run(frame(30))).verdict).toBe('tx');
    const { verdict, path } = await running.run(frame(31));
    expect([verdict, path?.at(-1)]).toEqual(['drop', { stage: 'turn', verdict: 'next', missed: true }]);
    const endless = await running.run(frame(200));
    expect([endless.verdict, endless.path?.length, endless.path?.at(-1)]).toEqual([
      'drop',
      33,
      { stage: 'turn', verdict: 'exit', exit: 'again', missed: true },
    ]);
    expect(running.stats().xdp.turn.misses).toBe(2n);
    expect(running.stats().roots.xdp.misses).toBe(0n);
  });

  test('back over several stages, out of a sub-chain, and within a function', async () => {
    const lap = defineFunction({ name: 'lap', stages: { xdp: [turn.on({ again: [odd.on({ odd: backTo('turn') }), backTo('turn')] })] } });
    await using running = await pipeline('laps', { xdp: [start, lap, last] }).run(engine);
    expect(shown((await running.run(frame(1))).path)).toBe('start next, lap.turn again, lap.odd odd, lap.turn next, last tx');
    // `odd` left by both ways, and the counters do not tell by which first
    expect(await running.run(frame(3))).toMatchObject({ verdict: 'tx', path: undefined });
    expect(running.stats().xdp['lap.odd']).toMatchObject({ exits: { odd: 3n }, next: 1n });
  });

  test('in a fused group the way back is a tail call, and all else a jump', async () => {
    await using running = await pipeline('fused', {
      xdp: [fuse(start, turn.on({ again: [odd.on({ odd: 'next' }), backTo('turn')] }), last)],
    }).run(engine);
    for (const rounds of [0, 1, 5]) expect((await running.run(frame(rounds))).verdict).toBe('tx');
    expect(running.stats().xdp.turn).toMatchObject({ exits: { again: 6n }, next: 3n, misses: 0n });
    expect((await running.run(frame(200))).verdict).not.toBe('tx');
  });

  test('loops come and go while the pipeline runs', async () => {
    const turning = turn.on({ again: backTo('start') });
    await using running = await pipeline('loop', { xdp: [start, turn.on({ again: 'drop' }), last] }).run(engine);
    expect((await running.run(frame(1))).verdict).toBe('drop');
    await running.update(pipeline('loop', { xdp: [start, turning, last] }));
    // rounds are counted anew in each: the last tail call is the one to `start`, which lets pass
    expect((await running.run(frame(1))).verdict).toBe('pass');
    expect(running.stats().xdp.start.misses + running.stats().xdp.turn.misses).toBe(1n);
    await running.update(pipeline('loop', { xdp: [start, turn.on({ again: backTo('turn') }), last] }));
    expect((await running.run(frame(1))).verdict).toBe('tx');
  });

  test('at TC, where a packet counts as its segments', async () => {
    const begin = stage({
      name: 'begin',
      hook: 'tcIngress',
      writes: { left: u8 },
      program(ctx) {
        ctx.meta.left = 4;
        return ctx.next();
      },
    });
    const step = stage({
      name: 'step',
      hook: 'tcIngress',
      reads: { left: u8 },
      writes: { left: u8 },
      program(ctx) {
        if (ctx.meta.left === 0) return ctx.drop();
        ctx.meta.left = (ctx.meta.left - 1) & 0xff;
        return ctx.next();
      },
    });
    const check = stage({ name: 'check', hook: 'tcIngress', program: (ctx) => (ctx.length > 0 ? ctx.exit('more') : ctx.next()) });
    await using running = await pipeline('tc', { tcIngress: [begin, step, check.on({ more: backTo('step') })] }).run(engine);
    const { verdict, path } = await running.run(packet().ipv4().tcp().payload(3000).bytes(), { skb: { gsoSegments: 3, gsoSize: 1000 } });
    expect([verdict, shown(path)]).toEqual(['drop', `begin next${', step next, check more'.repeat(4)}, step drop`]);
    expect(running.stats().tcIngress.check.exits.more).toBe(12n);
  });
}
