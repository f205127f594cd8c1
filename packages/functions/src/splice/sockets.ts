/** What a splicer has to know of TCP sockets, which only the kernel's side can tell: a service. */
import type { Socket } from 'node:net';
import { token } from '@tailrace/stage';

/** Where a TCP connection stands, in bytes since it was made. Only differences mean something. */
export interface TcpProgress {
  /** Handed to TCP for sending, waiting or sent. */
  readonly sent: bigint;
  /** Of those, what the peer has confirmed. */
  readonly confirmed: bigint;
  /** Come from the peer, read or not; its end counts as one more. */
  readonly received: bigint;
}

/** What still waits at a socket whose end Node has seen. */
export interface Reading extends Disposable {
  /** The next bytes; undefined where there are none now. Throws SyscallError. */
  read(): Uint8Array | undefined;
}

/** Whether Node reads a socket. It does at first, as far as its stream wants more. */
export interface SocketReader extends Disposable {
  /** Has Node read, unless it does. */
  start(): void;
  /** Has Node read nothing, and nobody be woken for what comes, until `start`, or until the peer has ended the connection or it breaks. */
  stop(): void;
}

/** Access to the kernel's side of Node's sockets. */
export interface TcpSockets {
  /** The socket's file descriptor; undefined where it has none, or is of something other than TCP. */
  descriptorOf(socket: Socket): number | undefined;
  /** Throws SyscallError. */
  progressOf(fd: number): TcpProgress;
  /** Bytes that have come to a socket that is in no map, and wait to be read. Throws SyscallError. */
  unreadOf(fd: number): number;
  /** Reads some of them, past Node; undefined where none waits. Throws SyscallError. */
  readBytes(fd: number): Uint8Array | undefined;
  /**
   * Moves some of the bytes that wait at one socket to another, past Node. `moved` is 0 where none waits; `rest` are those of them that the
   * other did not take. Throws SyscallError where the first is broken, of which Node then hears nothing.
   */
  moveBytes(from: number, to: number): { readonly moved: number; readonly rest?: Uint8Array };
  /** A reader of a socket that nothing else reads. Throws SyscallError. */
  readerOf(socket: Socket, fd: number): SocketReader;
  /** Another descriptor of the same socket, which keeps it open for reading until it is closed. Throws SyscallError. */
  keepReading(fd: number): Reading;
  /** Has the kernel look at what is queued at a socket, which it does not do for sockets that are put into a map with data waiting. */
  wake(fd: number): void;
}

/** Access to TCP sockets: `kernelSockets()` of the package `tailrace`, unless there is another. */
export const TcpSockets = token<TcpSockets>('TcpSockets');
