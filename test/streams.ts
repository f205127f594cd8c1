/** TCP streams in which each byte says its place: byte N is N & 255, so that a stage can check any segment it looks into. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import type { Host } from '@tailrace/testing';
import { TransferError, within } from '@tailrace/testing';
import { listenTcp } from 'tailrace';

const chunk = Buffer.from(Array.from({ length: 1 << 16 }, (_, index) => index & 255));

/**
 * Sends `size` bytes both ways at once over one connection from `client` to `server`. Throws TransferError where another
 * byte comes than was sent, TimeoutError after 20 s.
 */
export async function exchange(client: Host, server: Host, address: string, port: number, size: number): Promise<void> {
  const listener = createServer({ allowHalfOpen: true });
  listener.listen({ fd: listenTcp(server.namespace, address, port) });
  await once(listener, 'listening');
  try {
    const accepted = once(listener, 'connection') as Promise<[Socket]>;
    const socket = await client.connect(address, port);
    // Either direction may be over before the other.
    socket.allowHalfOpen = true;
    const [other] = await within(accepted, 5_000, `a connection to ${address} port ${port}`);
    await within(Promise.all([socket, other].map((end) => converse(end, size))), 20_000, `${size} bytes both ways`);
  } finally {
    listener.close();
  }
}

/** Sends, receives, and ends. */
async function converse(socket: Socket, size: number): Promise<void> {
  let received = 0;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.on('error', reject);
  socket.on('data', (bytes: Buffer) => {
    for (let at = 0; at < bytes.length; ) {
      const from = (received + at) & 0xffff;
      const length = Math.min(bytes.length - at, chunk.length - from);
      if (chunk.compare(bytes, at, at + length, from, from + length) !== 0)
        reject(new TransferError('a stream', 'bytes that count', `others behind byte ${received + at}`));
      at += length;
    }
    received += bytes.length;
  });
  socket.on('end', () => {
    if (received === size) resolve();
    else reject(new TransferError('a stream', `${size} bytes`, `${received} bytes`));
  });
  const drained = () => new Promise<void>((drain) => socket.once('drain', drain));
  for (let left = size; left > 0; left -= chunk.length) if (!socket.write(chunk.subarray(0, left))) await drained();
  socket.end();
  await promise;
}
