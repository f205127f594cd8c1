/**
 * What stands between a Node socket and its owner: by the methods that streams are made of, `push`, `_read`, `_write` and `_writev`,
 * it sees what comes in before a reader does, and what is written before TCP does. Without programs all goes through as it is.
 */
import type { Duplex } from 'node:stream';
import type { ConnectionEnds } from './connection-ends.ts';
import { PROGRAM_DATA, PROGRAM_MESSAGE } from './layout.ts';

/** What takes a socket's data in front of its reader. */
export interface Inlet {
  /** What goes on to the reader: all of the bytes or, as `undefined`, none. The end of the stream comes as no bytes. */
  take(bytes: Buffer): Buffer | undefined;
}

/** Tells a stream that a write is over, or has failed. */
export type Done = (error?: Error | null) => void;

/** What takes what a socket's owner writes, in front of TCP. */
export interface Outlet {
  take(bytes: Buffer, done: Done): void;
}

interface Written {
  readonly chunk: unknown;
  readonly encoding: BufferEncoding;
}

/** What streams say of bytes where text has an encoding; Node's types leave it out. */
const BYTES = 'buffer' as BufferEncoding;

/** For whom a socket may have room: the one who reads from it, or its peer. */
export type Side = 'reader' | 'peer';

/** A socket with what programs do to it. One for each socket of this process, made by `tapOf`. */
export class SocketTap {
  readonly number: number;
  readonly socket: Duplex & ConnectionEnds;
  inlet: Inlet | undefined;
  outlet: Outlet | undefined;
  /** Bytes that came before those that the inlet is given, modulo 2^32. */
  arrived = 0;
  readonly #push: Duplex['push'];
  readonly #read: Duplex['_read'];
  readonly #write: (written: readonly Written[], done: Done) => void;
  /** What programs have sent here: it goes past the outlet. */
  readonly #past = new WeakSet<object>();
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
    const [write, writev] = [socket._write.bind(socket), socket._writev?.bind(socket)];
    this.#write = ([first, ...others], done) => {
      if (first === undefined) done();
      else if (others.length === 0 || writev === undefined) write(first.chunk, first.encoding, done);
      else writev([first, ...others], done);
    };
    socket._write = (chunk, encoding, done) => this.#leaves([{ chunk, encoding }], done);
    if (writev) socket._writev = (written, done) => this.#leaves(written, done);
    // who has ended gets no 'drain' any more
    for (const event of ['drain', 'finish']) socket.on(event, () => this.#wake('peer'));
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
    if ('pending' in socket && socket.pending) return 'the socket is not connected yet';
    if (this.#hasEnded || socket.writableEnded) return 'one side of the socket has ended';
    if ('parser' in socket && socket.parser) return 'an HTTP parser reads from the socket';
    return undefined;
  }

  /** Which programs it has, as SOCKET_PROGRAMS has it. */
  get programs(): number {
    return (this.inlet ? PROGRAM_DATA : 0) | (this.outlet ? PROGRAM_MESSAGE : 0);
  }

  /** Called once it is closed, unless it is taken out before; it says how. */
  onClose(close: () => void): () => void {
    this.#onClose.add(close);
    return () => this.#onClose.delete(close);
  }

  /** Reads, whether or not its owner does, so that the inlet meets what comes. */
  start(): void {
    const { readableLength, readableHighWaterMark } = this.socket;
    if (readableLength < readableHighWaterMark && !this.#hasEnded) this.#read(readableHighWaterMark);
  }

  /** Hands bytes to its reader, past the inlet. False where the reader has enough for now; who has ended gets none. */
  deliver(bytes: Buffer): boolean {
    return this.socket.destroyed || this.#hasEnded || this.#push(bytes);
  }

  /** Writes bytes to its peer. False where they wait; who has ended sends none. */
  send(bytes: Buffer): boolean {
    return this.socket.destroyed || this.socket.writableEnded || this.socket.write(bytes);
  }

  /** As `send`, past the outlet. */
  sendPast(bytes: Buffer): boolean {
    this.#past.add(bytes);
    return this.send(bytes);
  }

  /** Bytes of its owner that a program has passed, to TCP. */
  pass(bytes: Buffer, done: Done): void {
    this.#write([{ chunk: bytes, encoding: BYTES }], done);
  }

  /** Called once there is room, or the socket is closed. */
  whenRoom(side: Side, then: () => void): void {
    this.#waiting[side].add(then);
  }

  /** Reads nothing more until another has room. */
  waitFor(other: SocketTap, side: Side): void {
    this.#holds += 1;
    other.whenRoom(side, () => {
      this.#holds -= 1;
      if (this.#holds === 0 && !this.socket.destroyed) this.start();
    });
  }

  #arrived(chunk: unknown, encoding: BufferEncoding | undefined): boolean {
    const { inlet } = this;
    if (chunk === null) {
      // a half-close, of which the owner hears whatever the verdict is; nobody is asked to read any more
      inlet?.take(Buffer.alloc(0));
      const wantsMore = this.#push(null);
      this.#wake('reader');
      return wantsMore;
    }
    if (inlet === undefined || !Buffer.isBuffer(chunk)) return this.#push(chunk, encoding);
    const left = inlet.take(chunk);
    this.arrived = (this.arrived + chunk.length) >>> 0;
    const wantsMore = left === undefined || this.#push(left);
    return wantsMore && this.#holds === 0;
  }

  #leaves(written: readonly Written[], done: Done): void {
    const { socket } = this;
    if ('connecting' in socket && socket.connecting) {
      // an event of the connection may bring a program for what waits
      const go = (): void => {
        socket.off('connect', go).off('close', go);
        this.#leaves(written, done);
      };
      socket.once('connect', go).once('close', go);
      return;
    }
    const { outlet } = this;
    if (outlet === undefined) return this.#write(written, done);
    const runs = runsOf(written, ({ chunk }) => typeof chunk === 'object' && chunk !== null && this.#past.has(chunk));
    const next: Done = (error) => {
      const run = runs.shift();
      if (error || run === undefined) return done(error);
      if (run.matches) this.#write(run.items, next);
      else outlet.take(Buffer.concat(run.items.map(bytesOf)), next);
    };
    next();
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

/** Items that match, or do not, in a row. */
function runsOf<T>(items: readonly T[], matches: (item: T) => boolean): { readonly matches: boolean; readonly items: T[] }[] {
  const runs: { readonly matches: boolean; readonly items: T[] }[] = [];
  for (const item of items) {
    const last = runs.at(-1);
    if (last?.matches === matches(item)) last.items.push(item);
    else runs.push({ matches: matches(item), items: [item] });
  }
  return runs;
}

function bytesOf({ chunk, encoding }: Written): Buffer {
  return typeof chunk === 'string' ? Buffer.from(chunk, encoding) : (chunk as Buffer);
}
