/** The TCP sockets of this process as Node knows them, for `splicer()` on the userspace engine. */
import { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { TcpSockets } from '@tailrace/functions/splice';
import { ArgumentError } from '@tailrace/stage';
import { socketNumber, socketNumbered } from '@tailrace/userspace';

/**
 * The TCP sockets of this process for `splicer()` in `userspace()`: `override(TcpSockets, userspaceSockets())`. In the place of
 * descriptors are the engine's own numbers. Node does not tell what a peer has confirmed: what TCP has taken stands for it.
 */
export function userspaceSockets(): TcpSockets {
  return {
    descriptorOf(socket) {
      // what comes out of TLS is no stream of TCP
      return socket instanceof TLSSocket || socket.remoteAddress === undefined ? undefined : socketNumber(socket);
    },
    progressOf(number) {
      const { bytesWritten, writableLength, bytesRead, readableEnded } = socketAt(number);
      const received = BigInt(bytesRead) + (readableEnded ? 1n : 0n);
      return { sent: BigInt(bytesWritten), confirmed: BigInt(bytesWritten - writableLength), received };
    },
    // of what waits at TCP Node knows nothing, and reads it all itself
    unreadOf: () => 0,
    readBytes: () => undefined,
    moveBytes: () => ({ moved: 0 }),
    // what the engine carries Node has read
    readerOf: () => ({ start: () => undefined, stop: () => undefined, [Symbol.dispose]: () => undefined }),
    // Node tells of an end behind all data
    keepReading: () => ({ read: () => undefined, [Symbol.dispose]: () => undefined }),
    // a socket that comes into a map is read at once
    wake: () => undefined,
  };
}

/** Throws ArgumentError. */
function socketAt(number: number): Socket {
  const socket = socketNumbered(number);
  if (socket instanceof Socket) return socket;
  throw new ArgumentError(`there is no TCP socket ${number}, or it is closed`);
}
