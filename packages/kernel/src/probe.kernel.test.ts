/** What a machine that has all of it tells, and that looking leaves nothing: no file, no program, no change of an interface. */
import { MapType } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { kernel } from './engine.ts';
import { dropProgram, openFds, passProgram, programSpec } from './fixture.ts';
import { createNamespace } from './netns.ts';
import { probeKernel } from './probe.ts';
import { Rtnetlink } from './rtnetlink.ts';

test('the machine that runs these tests is ready, and every kind of map was looked for', async () => {
  const { ready, machine, capabilities, hooks, maps } = await probeKernel({ interfaces: [] });
  expect(ready).toBe(true);
  for (const { state, needed, title } of [...machine, ...capabilities, ...hooks, ...maps]) if (needed) expect(state, title).toBe('yes');
  expect(maps.map(({ id }) => id)).toEqual(Object.keys(MapType).map((type) => `map.${type}`));
  expect(hooks.filter(({ state }) => state === 'unknown')).toEqual([]);
});

test('nothing is left open', async () => {
  await probeKernel();
  const before = openFds();
  for (let i = 0; i < 3; i++) await probeKernel();
  expect(openFds()).toBe(before);
});

test('interfaces are described with the programs of others, and not changed', async () => {
  using namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'near0', mtu: 9000 }, { name: 'far0' });
  route.change('near0', { up: true });
  const before = JSON.stringify([route.interfaces(), route.addresses()]);
  const look = async (interfaces?: readonly string[]) =>
    (await probeKernel({ netns: namespace, ...(interfaces ? { interfaces } : {}) })).interfaces;
  const [far, near, ...others] = await look();
  expect([near?.name, far?.name, others]).toEqual(['near0', 'far0', []]);
  expect(near).toMatchObject({ kind: 'veth', mtu: 9000, up: true, programs: [], offloads: { gro: false, tso: true, rxVlan: true } });
  const state = (id: string) => near?.checks.find((check) => check.id === id)?.state;
  expect(['ethernet', 'up', 'xdp.native', 'mtu', 'xdp.free', 'offload.rxVlan'].map(state)).toEqual([
    'yes',
    'no',
    'yes',
    'yes',
    'yes',
    'no',
  ]);
  expect(JSON.stringify([route.interfaces(), route.addresses()])).toBe(before);

  const tc = programSpec('others.tc', passProgram.instructions, { type: 'schedCls', frags: false });
  for (const link of ['tcx', 'clsact'] as const) {
    await using engine = await kernel({ interfaces: ['near0'], netns: namespace, tc: { link } }).open();
    const xdp = await engine.loadProgram(dropProgram, new Map());
    const filter = await engine.loadProgram(tc, new Map());
    await engine.attach(xdp, 'xdp');
    await engine.attach(filter, 'tcEgress');
    const [occupied] = await look(['near0']);
    expect(occupied?.programs).toEqual([
      { hook: 'xdp', by: 'native', programId: xdp.id, name: 'sample.drop' },
      {
        hook: 'tcEgress',
        by: link,
        programId: filter.id,
        name: link === 'tcx' ? 'others.tc' : expect.stringContaining('tailrace:others.tc'),
      },
    ]);
    expect(occupied?.checks.find(({ id }) => id === 'xdp.free')).toMatchObject({
      state: 'no',
      detail: `native: sample.drop (id ${xdp.id})`,
      remedy: 'stop what attached it, or: ip link set dev near0 xdp off',
    });
  }
});

test('loopback only where it is asked for, and what is not there is an error', async () => {
  using namespace = createNamespace();
  expect((await probeKernel({ netns: namespace })).interfaces).toEqual([]);
  const { ready, interfaces } = await probeKernel({ netns: namespace, interfaces: ['lo'] });
  expect([ready, interfaces.map(({ name }) => name)]).toEqual([true, ['lo']]);
  await expect(probeKernel({ netns: namespace, interfaces: ['eth7'] })).rejects.toThrow('there is no interface eth7');
});
