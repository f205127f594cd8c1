/** Two of Node's sockets, before anybody carries their bytes: what they have to be, what is in this process, and how they end. */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { ArgumentError } from '@tailrace/stage';

/** Throws ArgumentError for a socket that is not open, or that something else reads or decodes. */
export function checkSocket(socket: Socket): void {
  if (!(socket instanceof Duplex))
    throw new ArgumentError(`splice: expected a socket of node:net, got ${nameOf(socket)}`, { hint: 'join streams of TCP' });
  if (socket.destroyed) throw new ArgumentError('splice: the socket is closed', { hint: 'join sockets while they are open' });
  if (socket.pending) throw new ArgumentError('splice: the socket is not connected yet', { hint: "wait for its 'connect'" });
  if (socket.readableEncoding !== null)
    throw new ArgumentError(`splice: the socket decodes what comes as ${socket.readableEncoding}`, {
      hint: 'join sockets without setEncoding()',
    });
  const reader = ['data', 'readable'].find((event) => socket.listenerCount(event) > 0);
  if (reader !== undefined)
    throw new ArgumentError(`splice: something else reads the socket, it has a listener for '${reader}'`, {
      hint: 'take it off first; unpipe() what is piped',
    });
}

function nameOf(value: unknown): string {
  return typeof value === 'object' && value !== null ? value.constructor.name : String(value);
}

/** Nothing is read, and nothing is held back. */
export function quieten(socket: Socket): void {
  socket.pause();
  // else Node ends what it writes once the other side has ended
  socket.allowHalfOpen = true;
  while (socket.writableCorked > 0) socket.uncork();
}

/** What has come so far goes ahead, and what is written is with TCP; `moved` counts it. Returns what keeps the kernel from taking over. */
export async function drain(a: Socket, b: Socket, moved: { forth: bigint; back: bigint }): Promise<string | undefined> {
  for (;;) {
    let isStill = true;
    for (const [from, to, way] of [
      [a, b, 'forth'],
      [b, a, 'back'],
    ] as const) {
      if (from.readableEnded || to.writableEnded) return 'one side has ended already';
      const chunk: Buffer | null = from.readableLength > 0 ? from.read() : null;
      if (chunk === null && to.writableLength === 0) continue;
      isStill = false;
      moved[way] += BigInt(chunk?.length ?? 0);
      await new Promise<void>((resolve) => {
        to.write(chunk ?? new Uint8Array(0), () => resolve());
      });
      if (a.destroyed || b.destroyed) return 'one side was closed meanwhile';
    }
    if (isStill) return undefined;
  }
}

/** A socket that fails or is closed takes the other along. Resolves once both are closed. */
export function closeTogether(a: Socket, b: Socket): Promise<void> {
  const one = (socket: Socket, other: Socket): Promise<void> =>
    new Promise((resolve) => {
      let failed = false;
      socket.once('error', () => {
        failed = true;
      });
      socket.once('close', () => {
        if (failed) reset(other);
        else if (!socket.readableEnded || !socket.writableFinished) other.destroy();
        resolve();
      });
    });
  return Promise.all([one(a, b), one(b, a)]).then(() => undefined);
}

/** Only TCP has a reset: sockets of other kinds throw. */
function reset(socket: Socket): void {
  // Node leaves the descriptor open where an end is on its way; all that was to come before it has
  if (socket.writableEnded && !socket.writableFinished) return void socket.destroy();
  try {
    socket.resetAndDestroy();
  } catch {
    socket.destroy();
  }
}
