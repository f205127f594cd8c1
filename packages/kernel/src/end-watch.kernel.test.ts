/** Ends of real connections over loopback. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { EndWatch } from './end-watch.ts';

let server: Server;
const open = new Set<Socket>();
beforeAll(async () => {
  server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(() => {
  for (const socket of open) socket.destroy();
  open.clear();
});
afterAll(() => server.close());

/** A connection, and the descriptor of the end that nobody reads. */
async function connection(): Promise<{ far: Socket; fd: number }> {
  const accepted = once(server, 'connection');
  const far = connect({ port: (server.address() as { port: number }).port, host: '127.0.0.1', allowHalfOpen: true });
  const [near] = (await accepted) as [Socket & { _handle: { fd: number } }];
  for (const socket of [far, near]) open.add(socket.on('error', () => undefined));
  return { far, fd: near._handle.fd };
}

test('an end is told, and bytes are not', async () => {
  using watch = new EndWatch();
  const { far, fd } = await connection();
  const told: string[] = [];
  using _ = watch.watch(fd, () => told.push('end'));
  far.write('bytes that nobody reads');
  await sleep(30);
  expect(told).toEqual([]);
  far.end();
  await expect.poll(() => told).toEqual(['end']);
  await sleep(30);
  expect(told).toEqual(['end']);
});

test('a reset, an end that was before, and of many each to its own', async () => {
  using watch = new EndWatch();
  const told: string[] = [];
  const ends: Disposable[] = [];
  const before = await connection();
  before.far.end();
  await sleep(30);
  ends.push(watch.watch(before.fd, () => told.push('before')));
  await expect.poll(() => told).toEqual(['before']);
  const reset = await connection();
  ends.push(watch.watch(reset.fd, () => told.push('reset')));
  reset.far.resetAndDestroy();
  await expect.poll(() => told).toContain('reset');
  const many: Awaited<ReturnType<typeof connection>>[] = [];
  while (many.length < 200) many.push(await connection());
  const counts = many.map(({ fd }) => {
    const one = { count: 0 };
    ends.push(watch.watch(fd, () => void one.count++));
    return one;
  });
  for (const { far } of many.slice(0, 150)) far.end();
  await expect.poll(() => counts.map(({ count }) => count)).toEqual([...Array(150).fill(1), ...Array(50).fill(0)]);
  for (const end of ends) end[Symbol.dispose]();
});

test('what is not watched any more is told to nobody, and others still are', async () => {
  using watch = new EndWatch();
  const [left, right] = [await connection(), await connection()];
  const told: string[] = [];
  const end = watch.watch(left.fd, () => told.push('left'));
  using _ = watch.watch(right.fd, () => told.push('right'));
  end[Symbol.dispose]();
  left.far.end();
  await sleep(30);
  right.far.end();
  await expect.poll(() => told).toEqual(['right']);
});

test('once none is watched there may be another', async () => {
  using watch = new EndWatch();
  for (let i = 0; i < 3; i++) {
    const { far, fd } = await connection();
    const ended = new Promise<void>((resolve) => {
      const end = watch.watch(fd, () => {
        end[Symbol.dispose]();
        resolve();
      });
    });
    far.end();
    await ended;
  }
});

test('what is no descriptor is refused', () => {
  using watch = new EndWatch();
  expect(() => watch.watch(99_999, () => undefined)).toThrow(/epoll_ctl.*EBADF/);
});
