/** The way without the kernel: sockets piped by Node, half-closes handed on. */
import type { Socket } from 'node:net';

/** Pipes one way, from what is buffered on. Returns how many bytes have gone. */
export function pipeOne(source: Socket, target: Socket): () => bigint {
  let bytes = 0n;
  source.on('data', (chunk: Buffer) => {
    bytes += BigInt(chunk.length);
  });
  source.pipe(target);
  return () => bytes;
}
