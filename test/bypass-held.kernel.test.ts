/** Connections past TCP whose reader is slow, or does not read: who sends is held back by TCP in the end, and bytes keep their order. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { bypass } from '@tailrace/functions/bypass';
import { Cgroup } from '@tailrace/testing';
import fc from 'fast-check';
import { kernel, pipeline } from 'tailrace';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { drained, type Loopback, loopback } from './loopback.ts';

let cgroup: Cgroup;
let network: Loopback;
beforeAll(() => {
  cgroup = new Cgroup();
  cgroup.enter();
});
afterAll(() => cgroup.close());
beforeEach(async () => {
  network = await loopback();
});
afterEach(() => network[Symbol.asyncDispose]());

const MIB = 1 << 20;

/** A bypass at work, and what its stage counts. */
async function run(options: Parameters<typeof bypass>[0]) {
  const local = bypass(options);
  const running = await pipeline('local', { sockOps: [local], skMsg: [local] }).run(kernel({ cgroup: cgroup.path }));
  return {
    counted: () => running.stats().skMsg['bypass.handOver'],
    unanswered: () => running.controller(local).unanswered,
    [Symbol.asyncDispose]: () => running.stop(),
  };
}

/** What TCP itself takes of one direction at most, by its own limits. */
function buffersOfTcp(): number {
  const most = (name: string) => Number(readFileSync(`/proc/sys/net/ipv4/${name}`, 'utf8').trim().split(/\s+/)[2]);
  return most('tcp_rmem') + most('tcp_wmem');
}

/** Writes until the kernel takes nothing for a while; gives how many bytes it took. */
async function fill(socket: Socket, most: number): Promise<number> {
  const chunk = Buffer.alloc(MIB, 7);
  for (let at = 0; at < most; at += chunk.length)
    if (!socket.write(chunk) && (await Promise.race([once(socket, 'drain'), sleep(500)])) === undefined) break;
  return socket.bytesWritten - socket.writableLength;
}

test.for([64 * 1024, 4 * MIB])('a sender whose other end does not read is held back: %i bytes', async (maxUnanswered) => {
  await using running = await run({ maxUnanswered });
  const { outer, inner } = await network.connection();
  // what was handed over, with a message more each time, and what TCP has buffers for
  const most = 2 * (maxUnanswered + 17 * 32 * 1024) + buffersOfTcp();
  const sent = most + 64 * MIB;
  expect(await fill(outer, sent)).toBeLessThan(most);
  const { next, verdicts } = running.counted();
  expect(verdicts.redirect).toBeGreaterThan(0n);
  expect(next).toBeGreaterThan(0n);
  expect(running.unanswered()).toBe(1n);
  // all of it comes once there is a reader, and at once: nothing waits for a timer of TCP
  const since = performance.now();
  const all = drained(inner);
  outer.end();
  expect((await all).bytes).toBe(outer.bytesWritten);
  expect(performance.now() - since).toBeLessThan(5_000);
});

test('a sender without a limit is not', async () => {
  await using _ = await run({ maxUnanswered: Number.POSITIVE_INFINITY });
  const { outer, inner } = await network.connection();
  const most = buffersOfTcp() + 16 * MIB;
  const taken = await fill(outer, most);
  expect(taken).toBeGreaterThanOrEqual(most);
  const all = drained(inner);
  outer.end();
  expect((await all).bytes).toBe(outer.bytesWritten);
});

test('messages of a few bytes count with what the kernel keeps for them', async () => {
  await using running = await run({ maxUnanswered: 64 * 1024 });
  const { outer, inner } = await network.connection();
  outer.setNoDelay();
  for (let i = 0; i < 200; i++) {
    outer.write('x');
    await sleep(0);
  }
  const { next, verdicts } = running.counted();
  // 64 KiB of records, and the message that finds them spent
  expect(verdicts.redirect).toBeLessThan(70n);
  expect(next + verdicts.redirect).toBe(200n);
  const all = drained(inner);
  outer.end();
  expect((await all).bytes).toBe(200);
});

test('who is answered stays past TCP, however much it sends in all', async () => {
  await using running = await run({ maxUnanswered: 64 * 1024 });
  const { outer, inner } = await network.connection();
  let got = 0;
  inner.on('data', (chunk: Buffer) => {
    got += chunk.length;
    if (got % 50_000 === 0) inner.write('.');
  });
  inner.resume();
  const chunk = randomBytes(50_000);
  for (let i = 0; i < 100; i++) {
    const answered = once(outer, 'data');
    outer.write(chunk);
    await answered;
  }
  expect(running.counted()).toMatchObject({ next: 0n, bytes: 5_000_100n });
  expect(running.unanswered()).toBe(0n);
});

/** What one end does: writes of so many bytes with pauses before them, ms; and how it reads. */
interface Schedule {
  readonly writes: readonly (readonly [length: number, pauseMs: number])[];
  readonly readsAfterMs: number;
  readonly pauseEvery: number;
  readonly pauseMs: number;
}
const schedule: fc.Arbitrary<Schedule> = fc.record({
  writes: fc.array(fc.tuple(fc.oneof(fc.integer({ min: 1, max: 2_000 }), fc.integer({ min: 1, max: 300_000 })), fc.nat(3)), {
    maxLength: 30,
  }),
  readsAfterMs: fc.nat(30),
  pauseEvery: fc.integer({ min: 1, max: 40 }),
  pauseMs: fc.nat(6),
});

test('random schedules of two ends that send, read late and pause: bytes come whole and in order', async () => {
  let [past, through] = [0n, 0n];
  for (const maxUnanswered of [1, 4_096, 65_536, MIB]) {
    await using running = await run({ maxUnanswered });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(schedule, schedule), { minLength: 1, maxLength: 6 }), async (connections) => {
        await Promise.all(
          connections.map(async ([left, right]) => {
            const { outer, inner } = await network.connection();
            const results = await Promise.all([converse(outer, left), converse(inner, right)]);
            expect(results.map(({ got }) => got)).toEqual(results.map(({ sent }) => sent).reverse());
          }),
        );
      }),
      { numRuns: 50 },
    );
    const { next, verdicts } = running.counted();
    past += verdicts.redirect;
    through += next;
  }
  expect(past).toBeGreaterThan(500n);
  expect(through).toBeGreaterThan(500n);
}, 120_000);

/** Sends and reads by a schedule until both directions are over. */
async function converse(socket: Socket, { writes, readsAfterMs, pauseEvery, pauseMs }: Schedule) {
  const [sent, got] = [createHash('sha1'), createHash('sha1')];
  let reads = 0;
  socket.on('data', (chunk: Buffer) => {
    got.update(chunk);
    if (++reads % pauseEvery > 0) return;
    socket.pause();
    setTimeout(() => socket.resume(), pauseMs);
  });
  socket.pause();
  setTimeout(() => socket.resume(), readsAfterMs);
  const over = once(socket, 'end');
  for (const [length, pause] of writes) {
    await sleep(pause);
    const bytes = randomBytes(length);
    sent.update(bytes);
    if (!socket.write(bytes)) await once(socket, 'drain');
  }
  socket.end();
  await over;
  return { sent: sent.digest('hex'), got: got.digest('hex') };
}
