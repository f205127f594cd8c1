/** What reading perf event arrays leaves behind: nothing. The suite in packages/testing has the rest. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type KernelInstance, kernel } from './engine.ts';
import { mapSpec, openFds } from './fixture.ts';
import { failureTaken, injectFailure } from './syscall.ts';

const spec = mapSpec('perfEventArray', { name: 'events', valueSize: 4, maxEntries: 0 });

let instance: KernelInstance;
beforeAll(async () => {
  instance = await kernel({ interfaces: [] }).open();
});
afterAll(() => instance.close());

/** Rings of perf events that this process has mapped. */
function mappings(): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('[perf_event]')).length;
}

test('readers, and those that could not be opened, leave neither descriptors nor memory', async () => {
  const events = instance.createMap(spec);
  expect(events.spec.maxEntries).toBe(instance.cpus);
  instance.openRing(events, () => undefined).close();
  await turn();
  const before = [openFds(), mappings()];
  for (let round = 0; round < 20; round++) {
    const reader = instance.openRing(events, () => undefined);
    reader.arm();
    if (round % 2 === 0) await turn();
    expect(mappings()).toBeGreaterThan(before[1] as number);
    reader.close();
  }
  await turn();
  expect([openFds(), mappings()]).toEqual(before);
  let nth = 0;
  for (let taken = true; taken; ) {
    injectFailure(++nth);
    let error: unknown;
    try {
      instance.openRing(events, () => undefined).close();
    } catch (caught) {
      error = caught;
    }
    taken = failureTaken();
    injectFailure(0);
    // closing makes calls too, and what fails there says so
    if (taken) expect(String(error)).toContain('ENOMEM');
    await turn();
    if (nth < 2 + 4 * instance.cpus) expect([openFds(), mappings()]).toEqual(before);
  }
  expect(nth).toBeGreaterThan(2 + 4 * instance.cpus);
  events.close();
});

test.each([
  ['one that waits for events goes on', 'reader.arm();', null],
  ['one that does not ends', 'reader.arm(); reader.disarm();', 0],
  ['nor does one hold it that was never asked', '', 0],
])('processes: %s', (_name, then, status) => {
  const engine = new URL('./engine.ts', import.meta.url).href;
  const script = `import { kernel } from ${JSON.stringify(engine)};
    const instance = await kernel({ interfaces: [] }).open();
    const map = instance.createMap(${JSON.stringify(spec)});
    const reader = instance.openRing(map, () => undefined); ${then}`;
  const ran = spawnSync(process.execPath, ['--input-type=module', '--eval', script], { timeout: 2_000, encoding: 'utf8' });
  expect({ status: ran.status, stderr: ran.stderr }).toEqual({ status, stderr: '' });
});
