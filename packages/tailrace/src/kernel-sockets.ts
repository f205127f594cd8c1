/** The TCP sockets of this process as the kernel has them, for `splicer()`: bind them with `override(TcpSockets, kernelSockets())`. */
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { TLSSocket } from 'node:tls';
import type { SocketReader, TcpSockets } from '@tailrace/functions/splice';
import {
  EndWatch,
  isTcp,
  isTcpClosed,
  moveBytes,
  ReadingEnd,
  readBytes,
  setReceiveLowWater,
  tcpProgress,
  tcpUnread,
} from '@tailrace/kernel';

/** Access to them. */
export function kernelSockets(): TcpSockets {
  let ends: EndWatch | undefined;
  return {
    descriptorOf(socket) {
      const fd = handleFd(socket);
      return fd !== undefined && isTcp(fd) ? fd : undefined;
    },
    progressOf: tcpProgress,
    unreadOf: tcpUnread,
    readBytes,
    moveBytes,
    readerOf(socket, fd) {
      ends ??= new EndWatch();
      return new HandleReader(socket, ends, fd);
    },
    keepReading: (fd) => new ReadingEnd(fd),
    wake: (fd) => setReceiveLowWater(fd, 1),
  };
}

/** What Node reads a socket by. */
interface ReadableHandle {
  readonly fd?: number;
  /** Whether Node has it read. */
  reading: boolean;
  readStart(): number;
  readStop(): number;
}

/** Starts and stops Node's handle; its stream takes itself for reading throughout, so that it leaves the handle alone. */
class HandleReader implements SocketReader {
  readonly #socket: Socket;
  readonly #undo: DisposableStack;
  #isStopped = false;
  #hasEnded = false;

  /** Throws SyscallError. */
  constructor(socket: Socket, ends: EndWatch, fd: number) {
    this.#socket = socket;
    using undo = new DisposableStack();
    undo.use(seenIdle(socket, fd));
    const onEnd = (): void => {
      this.#hasEnded = true;
      this.start();
      if (socket.destroyed || !isTcpClosed(fd)) return;
      // behind an end that it has read Node hears of a reset no more, unless it writes, and it is the kernel that writes
      if (socket.readableEnded) this.#reset();
      else socket.once('end', () => this.#reset());
    };
    undo.use(ends.watch(fd, onEnd));
    this.#undo = undo.move();
  }

  start(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    handleOf(this.#socket)?.readStart();
  }

  stop(): void {
    const handle = handleOf(this.#socket);
    if (this.#isStopped || this.#hasEnded || !handle) return;
    this.#isStopped = true;
    // libuv takes the socket out of its poll when the next bytes come
    if (handle.reading) handle.readStop();
    handle.reading = true;
  }

  [Symbol.dispose](): void {
    this.#undo.dispose();
  }

  /** Of a connection that is over: it is broken where this side has not ended it. */
  #reset(): void {
    if (!this.#socket.writableEnded) this.#socket.destroy(connectionReset());
  }
}

/** What Node's sockets know of being idle. */
interface Idling {
  _onTimeout(): void;
  _unrefTimer(): void;
}

/** Has `setTimeout` of a socket see what goes through it past Node: idle is one whose connection has neither sent nor received. */
function seenIdle(socket: Socket, fd: number): Disposable {
  const idling = socket as Socket & Idling;
  const traffic = (): bigint => {
    const { sent, received } = tcpProgress(fd);
    return sent + received;
  };
  let before = traffic();
  const told = idling._onTimeout;
  idling._onTimeout = (): void => {
    const now = socket.destroyed ? before : traffic();
    if (now === before) return told.call(socket);
    before = now;
    idling._unrefTimer();
  };
  // Node has bound the one before to the timer
  if (socket.timeout) socket.setTimeout(socket.timeout);
  return { [Symbol.dispose]: () => void Reflect.deleteProperty(idling, '_onTimeout') };
}

/** What Node's own sockets fail with. */
function connectionReset(): Error {
  // biome-ignore lint/plugin: sockets of Node fail with errors of Node
  return Object.assign(new Error('read ECONNRESET'), { errno: -constants.errno.ECONNRESET, code: 'ECONNRESET', syscall: 'read' });
}

/** Node tells nobody the descriptor of a socket but its handle. Of one that this process encrypts it is another's: what is read there is none of its bytes. */
function handleFd(socket: Socket): number | undefined {
  if (socket instanceof TLSSocket) return undefined;
  const fd = handleOf(socket)?.fd;
  return fd !== undefined && fd >= 0 ? fd : undefined;
}

/** Undefined once the socket is closed. */
function handleOf(socket: Socket): ReadableHandle | undefined {
  return (socket as Socket & { readonly _handle?: ReadableHandle | null })._handle ?? undefined;
}
