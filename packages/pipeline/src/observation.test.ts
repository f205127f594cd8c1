/** Changes of what is told, on the fake engine: what an error at any step leaves, and what is not done at all. */
import { firstValueFrom } from 'rxjs';
import { expect, test } from 'vitest';
import { FakeEngine, PlannedFailure } from './fake-engine.ts';
import { pipeline } from './pipeline.ts';
import { fork, packetOf, step, withFakeCompiler } from './sample.ts';

const edge = pipeline('edge', { xdp: [fork('acl').on({ odd: 'drop' }), step('last')], tcEgress: [step('out').at('tc')] });

test('an error at any step leaves what was told before, and nothing open', async () => {
  const whole = new FakeEngine();
  await using first = await edge.run(whole, { services: withFakeCompiler });
  const before = whole.steps;
  await first.observe({ trace: { every: 1 }, drops: true });
  const steps = whole.steps - before;
  expect(steps).toBeGreaterThan(10);
  // the last one is the grace period, behind the change
  for (let at = 0; at < steps - 1; at++) {
    const engine = new FakeEngine();
    await using running = await edge.run(engine, { services: withFakeCompiler });
    const open = engine.openNames;
    engine.failAt = engine.steps + at;
    await expect(running.observe({ trace: { every: 1 }, drops: true }), `step ${at}`).rejects.toThrow(PlannedFailure);
    expect(engine.openNames, `step ${at}`).toEqual(open);
    await expect(firstValueFrom(running.trace$)).rejects.toThrow('the pipeline tells of no traces');
    expect((await running.run(packetOf(61))).verdict).toBe('drop');
    await running.observe({ trace: { every: 1 }, drops: true });
    await running.observe({ trace: false, drops: false });
    expect(engine.openNames).toEqual(open);
  }
});

test('what is asked for already changes nothing', async () => {
  const engine = new FakeEngine();
  await using running = await edge.run(engine, { services: withFakeCompiler, observe: { drops: true } });
  const { steps } = engine;
  await running.observe({});
  await running.observe({ drops: {}, trace: false, counters: true });
  expect(engine.steps).toBe(steps);
  await running.observe({ drops: { every: 2 } });
  expect(engine.steps).toBeGreaterThan(steps);
});
