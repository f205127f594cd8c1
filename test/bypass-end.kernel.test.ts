/** Connections whose bytes go past TCP when the pipeline stops, or its process is killed: they go on by TCP, and lose nothing. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { bypass } from '@tailrace/functions/bypass';
import { Cgroup } from '@tailrace/testing';
import { kernel, pipeline } from 'tailrace';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { gone, heldBy } from './kernel-objects.ts';
import { type Connection, drained, type Loopback, loopback, sha1 } from './loopback.ts';

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

/** Connections with bytes on their way, both ways, that nobody reads yet. */
async function underWay(count: number) {
  const made: { readonly connection: Connection; readonly sent: Record<keyof Connection, Buffer[]> }[] = [];
  for (let i = 0; i < count; i++) {
    const connection = await network.connection();
    const sent = { outer: [randomBytes(100_000)], inner: [randomBytes(1 + i)] };
    for (const end of ['outer', 'inner'] as const) for (const chunk of sent[end]) connection[end].write(chunk);
    made.push({ connection, sent });
  }
  return made;
}

/** More bytes, and the end; then all are read. */
async function goOn(made: Awaited<ReturnType<typeof underWay>>): Promise<void> {
  for (const { connection, sent } of made)
    for (const end of ['outer', 'inner'] as const) {
      const more = randomBytes(50_000);
      sent[end].push(more);
      connection[end].write(more);
    }
  for (const { connection, sent } of made) {
    const reads = (socket: Socket) => drained(socket);
    const [there, back] = [reads(connection.inner), reads(connection.outer)];
    for (const end of ['outer', 'inner'] as const) {
      const last = randomBytes(10);
      sent[end].push(last);
      connection[end].end(last);
    }
    expect((await there).hash).toBe(sha1(Buffer.concat(sent.outer)));
    expect((await back).hash).toBe(sha1(Buffer.concat(sent.inner)));
  }
}

test('the pipeline stops', async () => {
  const local = bypass();
  const running = await pipeline('local', { sockOps: [local], skMsg: [local] }).run(kernel({ cgroup: cgroup.path }));
  const { programs } = heldBy('self');
  const made = await underWay(20);
  expect(running.stats().skMsg['bypass.handOver'].verdicts.redirect).toBeGreaterThan(0n);
  await running.stop();
  await goOn(made);
  network.clear();
  await gone({ programs, namespaces: [] }, 5_000);
});

test('its process is killed', async () => {
  const child = spawn(process.execPath, [fileURLToPath(new URL('bypass-process.ts', import.meta.url)), cgroup.path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const { programs } = heldBy(child.pid as number);
  expect(programs.length).toBeGreaterThan(2);
  const made = await underWay(20);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await goOn(made);
  network.clear();
  await gone({ programs, namespaces: [] }, 5_000);
});
