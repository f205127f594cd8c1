/** Pairs when their pipeline stops, and what is left in the kernel of thousands of them. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Spliced, splicer, TcpSockets } from '@tailrace/functions/splice';
import { eventually } from '@tailrace/testing';
import { kernel, kernelSockets, override, pipeline } from 'tailrace';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { gone, heldBy, openFds } from './kernel-objects.ts';
import { drained, type Loopback, loopback, sha1 } from './loopback.ts';

let network: Loopback;
beforeEach(async () => {
  network = await loopback();
});
afterEach(() => network[Symbol.asyncDispose]());

async function splicing(maxPairs = 1000) {
  const joiner = splicer({ maxPairs });
  const running = await pipeline('proxy', { skSkb: [joiner] }).run(kernel({}), { services: [override(TcpSockets, kernelSockets())] });
  return { running, controller: running.controller(joiner) };
}

test('pairs go on through the process when the pipeline stops in the middle of what they say', async () => {
  const { running, controller } = await splicing();
  const { programs } = heldBy('self');
  const join = async (i: number) => {
    const [left, right] = [await network.connection(), await network.connection()];
    return { left, right, spliced: await controller.splice(left.inner, right.inner, { limitBytes: 2 ** (10 + (i % 12)) }) };
  };
  const one = async ({ left, right, spliced }: Awaited<ReturnType<typeof join>>, i: number): Promise<Spliced> => {
    const talk = async (from: Socket, to: Socket): Promise<void> => {
      const there = drained(to);
      const sent: Buffer[] = [];
      if (i % 3 === 0) to.pause();
      for (let j = 0; j < 40; j++) {
        const chunk = randomBytes(1 + ((i * j * 977) % 60_000));
        sent.push(chunk);
        if (!from.write(chunk) && i % 3 !== 0) await once(from, 'drain');
        if (j % 4 === 0) await sleep(5);
        if (j === 30) to.resume();
      }
      from.end();
      expect((await there).hash).toBe(sha1(Buffer.concat(sent)));
    };
    await Promise.all([talk(left.outer, right.outer), talk(right.outer, left.outer)]);
    await spliced.closed;
    return spliced;
  };
  const pairs = Promise.all((await Promise.all(Array.from({ length: 60 }, (_, i) => join(i)))).map(one));
  await sleep(15);
  const late = await network.connection();
  await running.stop();
  await expect(controller.splice(late.inner, (await network.connection()).inner)).rejects.toThrow('splice: the pipeline has stopped');
  expect(() => controller.hold(late.inner)).toThrow('splice: the pipeline has stopped');
  const ways = (await pairs).map(({ by }) => (by === 'kernel' ? by : by.process));
  expect(ways.filter((way) => way === 'the pipeline has stopped').length).toBeGreaterThan(30);
  network.clear();
  await gone({ programs, namespaces: [] }, 5_000);
});

/** Sockets of TCP that the kernel has, of all states, and the pages that they hold. */
function tcpSockets(): { readonly inUse: number; readonly orphans: number; readonly pages: number } {
  const [, inUse, orphans, pages] =
    /^TCP: inuse (\d+) orphan (\d+) tw \d+ alloc \d+ mem (\d+)/m.exec(readFileSync('/proc/net/sockstat', 'utf8')) ?? [];
  return { inUse: Number(inUse), orphans: Number(orphans), pages: Number(pages) };
}

test('5,000 pairs, in waves: nothing is left', async () => {
  const before = { fds: openFds(), sockets: tcpSockets(), held: heldBy('self') };
  const { running, controller } = await splicing();
  const { programs } = heldBy('self');
  for (let wave = 0; wave < 10; wave++) {
    const ends: Spliced[] = [];
    await Promise.all(
      Array.from({ length: 500 }, async (_, i) => {
        const [left, right] = await Promise.all([network.connection(), network.connection()]);
        const spliced = await controller.splice(left.inner, right.inner);
        ends.push(spliced);
        left.outer.write(Buffer.alloc(2000, i));
        right.outer.end();
        if (i % 5 === 0) return void left.outer.resetAndDestroy();
        const there = drained(right.outer);
        left.outer.end();
        expect((await there).bytes).toBe(2000);
      }),
    );
    network.clear();
    await Promise.all(ends.map(({ closed }) => closed));
  }
  expect(controller.size).toBe(0);
  await running.stop();
  await gone({ programs, namespaces: [] }, 5_000);
  await eventually(() => openFds() <= before.fds, 5_000, `${before.fds} open files again`);
  expect(heldBy('self')).toEqual(before.held);
  // others of this machine have sockets too, but not thousands
  await eventually(() => tcpSockets().inUse < before.sockets.inUse + 100, 10_000, 'sockets to be closed');
  await eventually(() => tcpSockets().orphans < before.sockets.orphans + 100, 10_000, 'orphans to be gone');
  await eventually(() => tcpSockets().pages < before.sockets.pages + 500, 10_000, 'memory of sockets to be free');
}, 120_000);

test('a proxy with 500 pairs is killed: all connections end, and nothing is left', async () => {
  const before = tcpSockets();
  const backend = createServer((socket) => void socket.on('error', () => undefined).resume()).listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const accepted: Socket[] = [];
  backend.on('connection', (socket) => accepted.push(socket));
  const proxy = fileURLToPath(new URL('../examples/tcp-proxy/proxy.ts', import.meta.url));
  const child = spawn(process.execPath, [proxy, '0', `127.0.0.1:${(backend.address() as { port: number }).port}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(/port (\d+) to/.exec(String(line))?.[1]);
  const { programs } = heldBy(child.pid as number);
  expect(programs.length).toBeGreaterThan(1);
  const clients = Array.from({ length: 500 }, () => new Socket().connect(port, '127.0.0.1').on('error', () => undefined));
  await eventually(() => accepted.length === 500, 20_000, '500 connections at the backend');
  const ended = [...clients, ...accepted].map((socket) => new Promise((resolve) => socket.resume().once('close', resolve)));
  // some have bytes on their way
  for (const client of clients.slice(0, 250)) client.write(Buffer.alloc(100_000));
  child.kill('SIGKILL');
  await once(child, 'exit');
  await Promise.race([Promise.all(ended), sleep(10_000).then(() => expect.fail('connections hang'))]);
  backend.close();
  await gone({ programs, namespaces: [] }, 5_000);
  await eventually(() => tcpSockets().inUse < before.inUse + 100, 10_000, 'sockets to be closed');
  await eventually(() => tcpSockets().pages < before.pages + 500, 10_000, 'memory of sockets to be free');
}, 60_000);
