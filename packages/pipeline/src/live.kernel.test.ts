/** Chains under real traffic, and what is left after errors and stops. */
import { createSocket } from 'node:dgram';
import { readdirSync, readlinkSync } from 'node:fs';
import type { Engine } from '@tailrace/bpf';
import { bindUdp, kernel, Rtnetlink } from '@tailrace/kernel';
import { quietNamespace } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { edge, last, liveSuite, watched } from './live.suite.ts';
import { pipeline } from './pipeline.ts';
import { bounce } from './sample.ts';

/** Files of this process that are bpf objects or sockets. */
function openFds(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return /bpf|socket|net:/.test(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      return false;
    }
  }).length;
}

liveSuite(kernel({ interfaces: [] }));

test('an error at any step leaves no file open', async () => {
  const before = openFds();
  let steps = 0;
  const counting = failing(Number.POSITIVE_INFINITY, () => {
    steps += 1;
  });
  await (await edge.run(counting)).stop();
  expect(steps).toBe(10);
  for (let at = 0; at < steps; at++) await expect(edge.run(failing(at, () => undefined))).rejects.toThrow(`step ${at} was told to fail`);
  expect(openFds()).toBe(before);
});

test('real packets on an interface', async () => {
  using namespace = quietNamespace();
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'left' }, { name: 'right' });
  for (const [name, address] of [
    ['left', '10.9.0.1/24'],
    ['right', '10.9.1.1/24'],
  ] as const) {
    route.change(name, { up: true });
    route.addAddress(name, address);
  }
  route.setNeighbour('left', '10.9.0.2', '02:00:00:00:00:02');
  const running = await edge.run(kernel({ interfaces: ['right'], netns: namespace }));
  expect(running.interfaces).toEqual(['right']);
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind({ fd: bindUdp(namespace, '10.9.0.1', 0) }, resolve));
  try {
    const send = (count: number) =>
      Promise.all(
        Array.from(
          { length: count },
          () =>
            new Promise<void>((resolve, reject) =>
              socket.send(new Uint8Array(100), 9, '10.9.0.2', (error) => (error ? reject(error) : resolve())),
            ),
        ),
      );
    await send(20);
    await running.replace(last, bounce('v2'));
    await send(20);
    const counted = () => running.stats().xdp;
    for (let i = 0; i < 100 && counted().last.packets < 40n; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(counted().first.packets).toBeGreaterThanOrEqual(40n);
    expect(counted().last.verdicts.tx).toBeGreaterThanOrEqual(20n);
    expect(counted().first.packets).toBe(counted().guard.packets);
    const other = pipeline('other', { xdp: [last] }).run(kernel({ interfaces: ['right'], netns: namespace }));
    await expect(other).rejects.toMatchObject({ code: 'conflict' });
  } finally {
    await new Promise<void>((resolve) => socket.close(resolve));
    await running.stop();
  }
  expect(route.interface('right').xdp).toEqual([]);
});

/** The kernel engine, with one call that fails after it was made: what it gave is the engine's to close. */
function failing(at: number, onStep: () => void): Engine {
  let steps = 0;
  return {
    kind: 'kernel',
    open: async () =>
      watched(await kernel({ interfaces: [] }).open(), (name) => {
        if (!['createMap', 'loadProgram', 'attach'].includes(name)) return;
        onStep();
        if (steps++ === at) throw new RangeError(`step ${at} was told to fail`);
      }),
  };
}
