import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { expect, test } from 'vitest';
import { closeTogether } from './socket-pair.ts';

/** Both ends of a connection over loopback. */
async function connection(): Promise<{ readonly near: Socket; readonly far: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const near = new Socket({ allowHalfOpen: true }).connect((server.address() as { port: number }).port, '127.0.0.1');
  const [far] = (await accepted) as [Socket];
  server.close();
  far.on('error', () => undefined);
  return { near, far };
}

test('a socket that fails resets the other', async () => {
  const [a, b] = [await connection(), await connection()];
  const closed = closeTogether(a.near, b.near);
  const reset = once(b.far.resume(), 'error');
  a.near.destroy(new RangeError('broken'));
  await closed;
  expect((await reset)[0]).toMatchObject({ code: 'ECONNRESET' });
  a.far.destroy();
});

test('a socket that fails while the end of the other is on its way closes it too', async () => {
  const [a, b] = [await connection(), await connection()];
  const closed = closeTogether(a.near, b.near);
  a.near.destroy(new RangeError('broken'));
  a.near.prependOnceListener('close', () => b.near.end('the last'));
  await closed;
  expect([a.near.closed, b.near.closed]).toEqual([true, true]);
  for (const { far } of [a, b]) far.destroy();
});
