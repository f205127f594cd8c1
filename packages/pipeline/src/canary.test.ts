/** Canaries on the fake engine: what is made, in which order, and what an error at any step leaves. */
import { override, stage } from '@tailrace/stage';
import { VirtualTimeScheduler } from 'rxjs';
import { expect, test } from 'vitest';
import { FakeEngine, PlannedFailure } from './fake-engine.ts';
import { pipeline } from './pipeline.ts';
import { bounce, fork, packetOf, step, withFakeCompiler } from './sample.ts';
import { Clock } from './service.ts';

const options = { services: withFakeCompiler };
const acl = fork('acl');
const present = pipeline('edge', { xdp: [acl.on({ odd: 'drop' }), step('last')], tcEgress: [step('out').at('tc')] });
const next = pipeline('edge', { xdp: [acl.on({ odd: 'drop' }), bounce('last')], tcEgress: [...(present.chains.tcEgress as [])] as never });
const long = stage({ name: 'long', hook: 'xdp', program: (ctx) => (ctx.length > 100 ? ctx.exit('canary') : ctx.next()) });

const verdicts = async (running: { run(packet: Uint8Array): Promise<{ verdict: string }> }) =>
  Promise.all([60, 61, 102, 103].map(async (length) => (await running.run(packetOf(length))).verdict));

test('a front in each chain that differs, from the stack outwards; promoted by the root', async () => {
  const engine = new FakeEngine();
  await using running = await present.run(engine, options);
  const open = engine.openNames;
  engine.log.length = 0;
  const trial = await running.canary(next, { match: long });
  expect(engine.log).toMatchInlineSnapshot(`
    [
      "map edge/xdp.array",
      "load acl",
      "load last",
      "slot edge/xdp.array[0] = last",
      "map edge/xdp.front",
      "load canary",
      "slot edge/xdp.front[0] = acl",
      "slot edge/xdp.front[1] = acl",
      "slot edge/xdp.entry[0] = canary",
    ]
  `);
  expect(await verdicts(running)).toEqual(['pass', 'drop', 'tx', 'drop']);
  expect(trial.stats()).toMatchObject({
    present: { xdp: { acl: { packets: 2n, next: 1n }, last: { next: 1n } } },
    canary: { xdp: { acl: { packets: 2n, exits: { odd: 1n } }, last: { verdicts: { tx: 1n } } } },
  });
  expect(trial.describe()).toEqual({ traffic: { match: ['long'] }, hooks: ['xdp'], pipeline: next.describe() });
  engine.log.length = 0;
  await trial.promote();
  expect(engine.log).toEqual(['slot edge/xdp.entry[0] = acl', 'grace']);
  expect(engine.openNames).toEqual(open);
  expect(await verdicts(running)).toEqual(['tx', 'drop', 'tx', 'drop']);
  expect(running.stats().xdp.acl.packets).toBe(8n);
});

test('an error at any step of its beginning leaves the present pipeline, and nothing of the canary', async () => {
  const whole = new FakeEngine();
  const first = await present.run(whole, options);
  const before = whole.steps;
  await first.canary(next, { match: long });
  const steps = whole.steps - before;
  await first.stop();
  expect(whole.open$.size).toBe(0);
  for (let at = 0; at < steps; at++) {
    const engine = new FakeEngine();
    const running = await present.run(engine, options);
    const [open, description] = [engine.openNames, running.describe()];
    engine.failAt = engine.steps + at;
    await expect(running.canary(next, { match: long })).rejects.toThrow(PlannedFailure);
    expect(engine.openNames, `failed at step ${at}`).toEqual(open);
    expect(running.describe()).toEqual(description);
    expect(await verdicts(running)).toEqual(['pass', 'drop', 'pass', 'drop']);
    const trial = await running.canary(next, { match: long });
    await trial.rollBack();
    expect(engine.openNames).toEqual(open);
    await running.stop();
  }
});

test('an end that fails can be asked for again', async () => {
  const engine = new FakeEngine();
  await using running = await present.run(engine, options);
  const open = engine.openNames;
  const trial = await running.canary(next, { match: long });
  for (const end of ['promote', 'rollBack'] as const) {
    engine.failAt = engine.steps + 1;
    await expect(trial[end]()).rejects.toThrow(PlannedFailure);
  }
  await trial.rollBack();
  expect(engine.openNames).toEqual(open);
  expect(await verdicts(running)).toEqual(['pass', 'drop', 'pass', 'drop']);
});

test('stats$ ticks and ends with the canary; disposing of one rolls it back', async () => {
  const clock = new VirtualTimeScheduler(undefined, 2500);
  const engine = new FakeEngine();
  await using running = await present.run(engine, { services: [...withFakeCompiler, override(Clock, clock)] });
  const packets: bigint[] = [];
  let ended = false;
  {
    await using trial = await running.canary(next, { match: long });
    await verdicts(running);
    trial.stats$.subscribe({
      next: ({ canary }) => packets.push(canary.xdp.acl.packets),
      complete: () => {
        ended = true;
      },
    });
    clock.flush();
  }
  expect([packets, ended]).toEqual([[2n, 2n, 2n], true]);
  expect(await verdicts(running)).toEqual(['pass', 'drop', 'pass', 'drop']);
});

test.each([
  [{ share: 0 }, 'canary: share is 0, expected more than 0 and at most 1'],
  [{ share: 1.5 }, 'canary: share is 1.5, expected more than 0 and at most 1'],
  [{ match: step('tc').at('tc') }, "stage 'tc' has hook 'tc'; 'xdp' is needed here"],
])('refuses %o', async (traffic, message) => {
  await using running = await present.run(new FakeEngine(), options);
  await expect(running.canary(next, traffic as never)).rejects.toThrow(message);
  await running.update(next);
});
