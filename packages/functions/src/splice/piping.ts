/** The way without the kernel: both sockets piped into one another by Node, half-closes and errors handed on. */
import type { Socket } from 'node:net';

/** Pipes both ways, from what is buffered on. Returns what has gone each way. */
export function pipeBoth(a: Socket, b: Socket): { readonly forth: () => bigint; readonly back: () => bigint } {
  return { forth: pipeOne(a, b), back: pipeOne(b, a) };
}

function pipeOne(source: Socket, target: Socket): () => bigint {
  let bytes = 0n;
  source.on('data', (chunk: Buffer) => {
    bytes += BigInt(chunk.length);
  });
  source.pipe(target);
  return () => bytes;
}
