/** Connections within this process, handed over without a kernel: some by their first bytes past TCP, some through it. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { bypass } from '@tailrace/functions/bypass';
import { pipeline, SocketGroup, userspace } from 'tailrace';
import { expect, test } from 'vitest';

const sha1 = (bytes: Buffer): string => createHash('sha1').update(bytes).digest('hex');

test.for([1, 65_536, 4 << 20])('bytes come whole and in order, past TCP and through it: %i unanswered', async (maxUnanswered) => {
  const sockets = new SocketGroup();
  const server = createServer({ allowHalfOpen: true }, (socket) => void socket.pipe(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  sockets.add(server);
  const local = bypass({ maxUnanswered });
  await using running = await pipeline('local', { sockOps: [local], skMsg: [local] }).run(userspace({ sockets, compile: 'quickly' }));

  /** Sends bytes in pieces, at once or once the server has accepted, and gives what comes back. */
  async function roundTrip(bytes: Buffer, pieces: number, waits: boolean): Promise<string> {
    const socket = new Socket({ allowHalfOpen: true });
    sockets.add(socket);
    socket.connect((server.address() as { port: number }).port, '127.0.0.1');
    await once(socket, 'connect');
    if (waits) await sleep(20);
    const hash = createHash('sha1');
    socket.on('data', (chunk: Buffer) => hash.update(chunk));
    const size = Math.ceil(bytes.length / pieces);
    for (let at = 0; at < bytes.length; at += size) if (!socket.write(bytes.subarray(at, at + size))) await once(socket, 'drain');
    socket.end();
    await once(socket, 'end');
    return hash.digest('hex');
  }

  const all = Array.from({ length: 40 }, (_, i) => randomBytes(1 + i * 20_000));
  expect(await Promise.all(all.map((bytes, i) => roundTrip(bytes, 1 + (i % 7), i % 2 === 0)))).toEqual(all.map(sha1));
  const { bytes, next, verdicts } = running.stats().skMsg['bypass.handOver'];
  expect(bytes).toBe(BigInt(2 * all.reduce((sum, { length }) => sum + length, 0)));
  // who waits finds the other end
  expect(verdicts.redirect).toBeGreaterThanOrEqual(20n);
  expect(verdicts.redirect + next).toBeGreaterThanOrEqual(80n);
  server.close();
});

test('numbers that cannot be are refused', () => {
  for (const maxUnanswered of [0, -1, 1.5, Number.NaN])
    expect(() => bypass({ maxUnanswered })).toThrow(`bypass: maxUnanswered is ${maxUnanswered}, expected 1..9007199254740991 or Infinity`);
});
