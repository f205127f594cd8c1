/**
 * What stands between a Node socket and its owner: by the methods that streams are made of, `push` and `_read`, it sees what comes
 * in before a reader does. Without programs all goes through as it is.
 */
import type { Duplex } from 'node:stream';
import type { ConnectionEnds } from './connection-ends.ts';

/** What takes a socket's data in front of its reader. */
export interface Inlet {
  /** What goes on to the reader: all of the bytes or, as `undefined`, none. The end of the stream comes as no bytes. */
  take(bytes: Buffer): Buffer | undefined;
}

/** For whom a socket may have room: the one who reads from it, or its peer. */
export type Side = 'reader' | 'peer';

/** A socket with what programs do to it. One for each socket of this process, made by `tapOf`. */
export class SocketTap {
  readonly number: number;
  readonly socket: Duplex & ConnectionEnds;
  inlet: Inlet | undefined;
  readonly #push: Duplex['push'];
  readonly #read: Duplex['_read'];
  readonly #waiting: Readonly<Record<Side, Set<() => void>>> = { reader: new Set(), peer: new Set() };
  readonly #onClose = new Set<() => void>();
  /** How many others it waits for before it reads on. */
  #holds = 0;

  constructor(socket: Duplex, number: number) {
    this.number = number;
    this.socket = socket;
    this.#push = socket.push.bind(socket);
    this.#read = socket._read.bind(socket);
    socket.push = (chunk, encoding) => this.#arrived(chunk, encoding);
    socket._read = (size) => this.#wanted(size);
    socket.on('drain', () => this.#wake('peer'));
    socket.once('close', () => {
      for (const side of ['reader', 'peer'] as const) this.#wake(side);
      for (const close of this.#onClose) close();
      this.#onClose.clear();
    });
  }

  /** Why it cannot come into a map of sockets; undefined where it can. */
  get refusal(): string | undefined {
    const { socket } = this;
    if (socket.destroyed) return 'the socket is closed';
    if ('connecting' in socket && socket.connecting) return 'the socket is not connected yet';
    if (this.#hasEnded || socket.writableEnded) return 'one side of the socket has ended';
    if ('parser' in socket && socket.parser) return 'an HTTP parser reads from the socket';
    return undefined;
  }

  /** Called once it is closed, unless it is taken out before; it says how. */
  onClose(close: () => void): () => void {
    this.#onClose.add(close);
    return () => this.#onClose.delete(close);
  }

  /** Reads, whether or not its owner does, so that the inlet meets what comes. */
  start(): void {
    if (this.socket.readableLength < this.socket.readableHighWaterMark) this.#read(this.socket.readableHighWaterMark);
  }

  /** Hands bytes to its reader, past the inlet. False where the reader has enough for now; who has ended gets none. */
  deliver(bytes: Buffer): boolean {
    return this.socket.destroyed || this.#hasEnded || this.#push(bytes);
  }

  /** Writes bytes to its peer. False where they wait; who has ended sends none. */
  send(bytes: Buffer): boolean {
    return this.socket.destroyed || this.socket.writableEnded || this.socket.write(bytes);
  }

  /** Reads nothing more until another has room. */
  waitFor(other: SocketTap, side: Side): void {
    this.#holds += 1;
    other.#waiting[side].add(() => {
      this.#holds -= 1;
      if (this.#holds === 0 && !this.socket.destroyed) this.start();
    });
  }

  #arrived(chunk: unknown, encoding: BufferEncoding | undefined): boolean {
    const { inlet } = this;
    if (inlet === undefined || (chunk !== null && !Buffer.isBuffer(chunk))) return this.#push(chunk, encoding);
    if (chunk === null) {
      // a half-close, of which the owner hears whatever the verdict is
      inlet.take(Buffer.alloc(0));
      return this.#push(null);
    }
    const left = inlet.take(chunk);
    const wantsMore = left === undefined || this.#push(left);
    return wantsMore && this.#holds === 0;
  }

  #wanted(size: number): void {
    this.#wake('reader');
    if (this.#holds === 0) this.#read(size);
  }

  #wake(side: Side): void {
    const waiting = [...this.#waiting[side]];
    this.#waiting[side].clear();
    for (const wake of waiting) wake();
  }

  /** Whether its peer has ended; `readableEnded` says so only once all that came before is read. */
  get #hasEnded(): boolean {
    const { _readableState } = this.socket as unknown as { readonly _readableState: { readonly ended: boolean } };
    return _readableState.ended;
  }
}
