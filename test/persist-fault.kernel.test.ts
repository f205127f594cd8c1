/** Each system call of starting and of taking over a persistent pipeline fails once: all of it is rolled back, or goes on. */
import { existsSync, readdirSync } from 'node:fs';
import { createNamespace, kernel, type NetworkNamespace, PacketSocket, Rtnetlink } from '@tailrace/kernel';
import { keptPipelines, stopKept } from '@tailrace/pipeline';
import { eventually } from '@tailrace/testing';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { failureTaken, injectFailure } from '../packages/kernel/src/syscall.ts';
import { AT, keptEdge, PROBE } from './kept-edge.ts';
import { openFds } from './kernel-objects.ts';

const name = `fails-${process.pid}`;
let namespace: NetworkNamespace;
let route: Rtnetlink;
let sender: PacketSocket;

beforeAll(() => {
  namespace = createNamespace();
  route = new Rtnetlink(namespace);
  route.createVeth({ name: 'left' }, { name: 'right' });
  for (const end of ['left', 'right']) route.change(end, { up: true });
  sender = new PacketSocket(namespace, 'left');
});

afterEach(async () => {
  injectFailure(0);
  await using outside = await kernel({ interfaces: [] }).open();
  if (keptPipelines(outside).some((kept) => kept.name === name)) await stopKept(outside, name);
});

afterAll(() => {
  sender.close();
  route.close();
  namespace.close();
});

const run = (generation: number) => {
  const { seen, edge } = keptEdge(name);
  return { seen, running: edge(generation).run(kernel({ interfaces: ['right'], netns: namespace }), { persist: true }) };
};
const hasFolder = () => existsSync(`/sys/fs/bpf/tailrace/${name}`);
/** Numbers of arrays change; what there is does not. */
const pins = () =>
  readdirSync(`/sys/fs/bpf/tailrace/${name}`)
    .map((pin) => pin.replace(/%3A\d+%3A/, ':N:'))
    .sort();

/** Sends frames; all of them were counted by both chains. */
async function flows(count: () => readonly (bigint | undefined)[]): Promise<void> {
  const before = count().map((value) => (value ?? 0n) + 3n);
  for (let i = 0; i < 3; i++) {
    const frame = new Uint8Array(PROBE.bytes).fill(0xff, 0, 6);
    new DataView(frame.buffer).setUint16(12, PROBE.etherType);
    sender.send(frame);
  }
  await eventually(() => count().join() === before.join(), 2_000, 'frames that were counted');
}

/** Repeats something with its first, second, third … call failing, until none is left to fail. */
async function failing(operate: () => Promise<void>, check: (failed: boolean, nth: number) => Promise<void>): Promise<number> {
  for (let nth = 1; ; nth += 1) {
    injectFailure(nth);
    const failed = await operate().then(
      () => false,
      () => true,
    );
    const taken = failureTaken();
    injectFailure(0);
    if (!taken) return nth;
    await check(failed, nth);
  }
}

test('starting', { timeout: 120_000 }, async () => {
  const fds = openFds();
  let open: Awaited<ReturnType<typeof run>['running']> | undefined;
  const calls = await failing(
    async () => {
      open = await run(1).running;
    },
    async (failed, nth) => {
      if (!failed) await open?.stop();
      expect(hasFolder(), `call ${nth}`).toBe(false);
      expect(route.interface('right').xdp, `call ${nth}`).toEqual([]);
      await eventually(() => openFds() === fds, 2_000, `open files after call ${nth}`);
    },
  );
  await open?.stop();
  expect(calls).toBeGreaterThan(40);
});

test('taking over', { timeout: 240_000 }, async () => {
  const first = run(1);
  const one = await first.running;
  for (const key of Object.values(AT)) one.map(first.seen).set(key, 0n);
  await one.leave();
  const [fds, before] = [openFds(), pins()];
  let open: Awaited<ReturnType<typeof run>['running']> | undefined;
  const calls = await failing(
    async () => {
      open = await run(2).running;
    },
    async (failed, nth) => {
      if (!failed) await open?.leave();
      expect(route.interface('right').xdp, `call ${nth}`).toHaveLength(1);
      await eventually(() => openFds() === fds, 2_000, `open files after call ${nth}`);
      const next = run(3);
      const running = await next.running;
      expect(pins(), `call ${nth}`).toEqual(before);
      const handle = running.map(next.seen);
      await flows(() => [handle.get(AT.xdp), handle.get(AT.tcIngress)]);
      expect(handle.get(AT.mixed), `call ${nth}`).toBe(0n);
      expect(running.stats().roots, `call ${nth}`).toEqual({
        xdp: { misses: 0n, withoutMetadata: 0n },
        tcIngress: { misses: 0n, withoutMetadata: 0n },
      });
      await running.leave();
    },
  );
  expect(calls).toBeGreaterThan(60);
  await open?.stop();
});
