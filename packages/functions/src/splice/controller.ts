/** Joins sockets in pairs. */
import type { Socket } from 'node:net';
import { ArgumentError, type HandleOf, TailraceError } from '@tailrace/stage';
import { connectionKeyOf } from '../connection.ts';
import { Flow, type FlowMaps, type FlowStats } from './flow.ts';
import { pipeBoth } from './piping.ts';
import type { TcpSockets } from './sockets.ts';
import type { spliceMaps } from './stage.ts';

type Maps = ReturnType<typeof spliceMaps>;

/** What the controller works on. */
export interface SpliceNeeds extends FlowMaps {
  readonly peers: HandleOf<Maps['peers']>;
  readonly flows: HandleOf<Maps['flows']>;
  readonly sockets: TcpSockets;
}

/** How to join two sockets. */
export interface SpliceOptions {
  /** Bytes that may wait for a slow reader, each way; default 1 MiB. TCP holds the sender back beyond. */
  readonly limitBytes?: number;
  /** Throw where the kernel cannot take a pair, instead of piping it in this process. */
  readonly require?: 'kernel';
}

/** A pair of sockets. */
export interface Spliced {
  /** Who carries the bytes, and where it is this process, why. */
  readonly by: 'kernel' | { readonly process: string };
  /** Bytes from the first socket to the second, and back. */
  readonly stats: { readonly forth: FlowStats; readonly back: FlowStats };
  /** Resolves once both sockets are closed, whatever closed them. */
  readonly closed: Promise<void>;
}

/** A socket that the program sees. */
interface Place {
  /** The flow of what comes in at it, and the one that leads to it. */
  readonly from: number;
  readonly to: number;
  readonly fd: number;
  /** Bytes of it that came to this process before. */
  readonly early: bigint;
  /** Takes it out of the maps. Data that are on their way to it go with its place. */
  readonly undo: DisposableStack;
}

/** Joins sockets in pairs: what comes in at one goes out of the other. */
export class SpliceController implements Disposable {
  readonly #needs: SpliceNeeds;
  readonly #free: number[];
  readonly #joined = new WeakSet<Socket>();
  readonly #held = new Map<Socket, Place>();
  readonly #pairs = new Set<() => void>();

  constructor(needs: SpliceNeeds, pairs: number) {
    this.#needs = needs;
    this.#free = Array.from({ length: 2 * pairs }, (_, index) => index).reverse();
  }

  /** Pairs that the kernel carries now. */
  get size(): number {
    return this.#pairs.size;
  }

  /**
   * Has the program see an established connection whose partner is to be found yet: what comes in meets the stages behind the
   * splicer's, and waits for `splice`, which then joins it from its first byte on. Returns who sees it; where that is not the kernel, why.
   * Throws ArgumentError for a socket that is closed, held or joined.
   */
  hold(socket: Socket): Spliced['by'] {
    this.#check(socket);
    if (this.#held.has(socket)) throw new ArgumentError('splice: the socket is held already');
    quieten(socket);
    const place = this.#enter(socket, BigInt(socket.readableLength));
    if ('reason' in place) return { process: place.reason };
    this.#held.set(socket, place);
    this.#needs.sockets.wake(place.fd);
    socket.once('close', () => {
      if (this.#held.delete(socket)) place.undo.dispose();
    });
    return 'kernel';
  }

  /**
   * Joins two established connections, of which nothing but `splice` reads or writes from then on. Bytes that have come are not lost,
   * a half-close goes through, an error or a reset of one ends the other. Where the kernel cannot take the pair (another kind of
   * socket, one that is half closed already, no room) this process pipes it, and `by` says why. Throws ArgumentError for sockets that
   * are closed, joined already, or one and the same, or both held, and with `require` what keeps the kernel from taking them.
   */
  async splice(a: Socket, b: Socket, options: SpliceOptions = {}): Promise<Spliced> {
    const { limitBytes = 2 ** 20 } = options;
    if (!Number.isSafeInteger(limitBytes) || limitBytes < 1)
      throw new ArgumentError(`splice: limitBytes is ${limitBytes}, expected 1 or more`);
    if (a === b) throw new ArgumentError('splice: a socket cannot be joined with itself');
    for (const socket of [a, b]) this.#check(socket);
    if (this.#held.has(a) && this.#held.has(b)) throw new ArgumentError('splice: both sockets are held, expected one at most');
    for (const socket of [a, b]) {
      this.#joined.add(socket);
      quieten(socket);
    }
    const closed = this.#closeTogether(a, b);
    const early = { forth: 0n, back: 0n };
    const reason = await this.#drain(a, b, early);
    const limit = BigInt(limitBytes);
    const pair = reason === undefined ? this.#carry(a, b, { limit, early, closed }) : { reason, cause: undefined };
    if ('forth' in pair) return carried(pair, closed);
    if (options.require === 'kernel') {
      for (const socket of [a, b]) socket.destroy();
      throw new TailraceError('unsupported', `splice: ${pair.reason}`, { cause: pair.cause });
    }
    const piped = pipeBoth(a, b);
    const told = (bytes: bigint): FlowStats => ({ sent: 0n, passedOn: bytes });
    return {
      by: { process: pair.reason },
      closed,
      get stats() {
        return { forth: told(early.forth + piped.forth()), back: told(early.back + piped.back()) };
      },
    };
  }

  [Symbol.dispose](): void {
    for (const end of [...this.#pairs]) end();
    for (const { undo } of this.#held.values()) undo.dispose();
    this.#held.clear();
  }

  #check(socket: Socket): void {
    if (socket.destroyed) throw new ArgumentError('splice: the socket is closed', { hint: 'join sockets while they are open' });
    if (socket.connecting) throw new ArgumentError('splice: the socket is not connected yet', { hint: "wait for its 'connect'" });
    if (this.#joined.has(socket)) throw new ArgumentError('splice: the socket is joined already');
  }

  /** What has come so far goes ahead, and what is written is with TCP. Returns what keeps the kernel from taking over. */
  async #drain(a: Socket, b: Socket, moved: { forth: bigint; back: bigint }): Promise<string | undefined> {
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

  #carry(
    a: Socket,
    b: Socket,
    { limit, early, closed }: { readonly limit: bigint; readonly early: { forth: bigint; back: bigint }; readonly closed: Promise<void> },
  ): { forth: Flow; back: Flow } | { reason: string; cause: unknown } {
    const { carried, allowed, sockets } = this.#needs;
    const placeA = this.#held.get(a) ?? this.#enter(a, early.forth, this.#held.get(b));
    if ('reason' in placeA) return placeA;
    const placeB = this.#held.get(b) ?? this.#enter(b, early.back, placeA);
    // not before both are closed: what is on its way to one of them goes with its place, and so does what waits in it
    const leave = (): void => {
      for (const place of [placeA, placeB]) if ('undo' in place) place.undo.dispose();
    };
    for (const socket of [a, b]) this.#held.delete(socket);
    if ('reason' in placeB) {
      void closed.then(leave);
      sockets.wake(placeA.fd);
      return placeB;
    }
    const parts = { carried, allowed, sockets, limit };
    const flow = (source: Socket, target: Socket, [place, targetFd, bytes]: readonly [Place, number, bigint]): Flow =>
      new Flow({
        ...parts,
        ...{ source, target, sourceFd: place.fd, targetFd, index: place.from },
        ...{ early: bytes, counted: bytes - place.early },
      });
    const pair = { forth: flow(a, b, [placeA, placeB.fd, early.forth]), back: flow(b, a, [placeB, placeA.fd, early.back]) };
    pair.forth.start();
    pair.back.start();
    // what came before the program was there waits, until somebody asks for it
    for (const { fd } of [placeA, placeB]) sockets.wake(fd);
    for (const socket of [a, b]) socket.resume();
    const end = (): void => {
      if (!this.#pairs.delete(end)) return;
      pair.forth.stop();
      pair.back.stop();
      leave();
    };
    this.#pairs.add(end);
    void closed.then(end);
    return pair;
  }

  /** Puts a socket into the maps, as the partner of one that is there or for one to come; `early` bytes of it are in this process. */
  #enter(socket: Socket, early: bigint, partner?: Place): Place | { reason: string; cause: unknown } {
    const { peers, flows, sockets } = this.#needs;
    const fd = sockets.descriptorOf(socket);
    if (fd === undefined) return { reason: 'one side is no TCP socket', cause: undefined };
    using undo = new DisposableStack();
    const ways = partner ? { from: partner.to, to: partner.from } : this.#reserve(undo);
    if (!ways) return { reason: 'there is no room for another pair', cause: undefined };
    try {
      const key = connectionKeyOf(socket);
      flows.set(key, ways.from, 'noexist');
      undo.defer(() => flows.delete(key));
      peers.set(ways.to, fd, 'noexist');
      undo.defer(() => peers.delete(ways.to));
    } catch (cause) {
      if (!(cause instanceof TailraceError)) throw cause;
      return { reason: `the kernel does not take the sockets: ${cause.message}`, cause };
    }
    return { ...ways, fd, early, undo: undo.move() };
  }

  /** Two flows, one each way, on which all is left to the process until `start` says otherwise. */
  #reserve(undo: DisposableStack): { from: number; to: number } | undefined {
    const [from, to] = [this.#free.pop(), this.#free.pop()];
    if (from === undefined || to === undefined) {
      if (from !== undefined) this.#free.push(from);
      return undefined;
    }
    undo.defer(() => this.#free.push(to, from));
    const { carried, allowed } = this.#needs;
    for (const index of [from, to]) {
      carried.set(index, { sent: 0n, left: 0n });
      allowed.set(index, { passedOn: 0n, until: 0n });
    }
    return { from, to };
  }

  /** A socket that fails or is closed takes the other along. */
  #closeTogether(a: Socket, b: Socket): Promise<void> {
    const one = (socket: Socket, other: Socket): Promise<void> =>
      new Promise((resolve) => {
        let failed = false;
        socket.once('error', () => {
          failed = true;
        });
        socket.once('close', () => {
          if (failed) other.resetAndDestroy();
          else if (!socket.readableEnded || !socket.writableFinished) other.destroy();
          resolve();
        });
      });
    return Promise.all([one(a, b), one(b, a)]).then(() => undefined);
  }
}

function quieten(socket: Socket): void {
  socket.pause();
  // else Node ends what it writes once the other side has ended
  socket.allowHalfOpen = true;
}

function carried(pair: { readonly forth: Flow; readonly back: Flow }, closed: Promise<void>): Spliced {
  return {
    by: 'kernel',
    closed,
    get stats() {
      return { forth: pair.forth.stats, back: pair.back.stats };
    },
  };
}
