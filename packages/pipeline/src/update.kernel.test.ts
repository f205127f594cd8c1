import { readdirSync, readlinkSync } from 'node:fs';
import type { Engine } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import { expect, test } from 'vitest';
import { watched } from './live.suite.ts';
import { pipeline } from './pipeline.ts';
import { bounce, fork, packetOf, step } from './sample.ts';
import { updateSuite } from './update.suite.ts';

updateSuite(kernel({ interfaces: [] }));

/** Maps, programs and links that this process has open. */
function openObjects(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('bpf');
    } catch {
      return false;
    }
  }).length;
}

test('an error at any step of an update or a canary leaves no map and no program behind', async () => {
  const acl = fork('acl');
  const from = pipeline('edge', { xdp: [acl.on({ odd: 'drop' }), step('last')], tcEgress: [step('out').at('tc')] });
  const to = pipeline('edge', { xdp: [acl.on({ odd: bounce('back') }), step('last')], tcEgress: [step('other').at('tc')] });
  let [steps, failAt] = [0, Number.POSITIVE_INFINITY];
  const engine: Engine = {
    kind: 'kernel',
    open: async () =>
      watched(await kernel({ interfaces: [] }).open(), (name, made) => {
        if (!['createMap', 'loadProgram', 'gracePeriod'].includes(name)) return;
        if (steps++ !== failAt) return;
        if (name !== 'gracePeriod') (made as { close(): void }).close();
        throw new RangeError(`step ${failAt} was told to fail`);
      }),
  };
  await using running = await from.run(engine);
  const open = openObjects();
  const ways = [() => running.update(to), () => running.canary(to, { share: 0.5 })] as const;
  for (const [at, way] of ways.entries()) {
    // what it takes: an array and its programs for each chain, and for a canary two fronts
    const last = at === 0 ? 6 : 10;
    for (let step = 0; step < last; step++) {
      [steps, failAt] = [0, step];
      await expect(way()).rejects.toThrow(`step ${step} was told to fail`);
      expect(openObjects(), `step ${step}`).toBe(open);
      expect((await running.run(packetOf(61))).verdict).toBe('drop');
    }
  }
  failAt = Number.POSITIVE_INFINITY;
  await running.update(to);
  expect((await running.run(packetOf(61))).verdict).toBe('tx');
  expect(openObjects()).toBe(open + 1);
});
