/** Where sockets are in the splicer's maps: which flow their data are, and which one leads to them. */
import type { Socket } from 'node:net';
import { type HandleOf, TailraceError } from '@tailrace/stage';
import { connectionKeyOf } from '../connection.ts';
import type { SocketReader, TcpSockets } from './sockets.ts';
import { FlowState, type spliceMaps } from './stage.ts';

type Maps = ReturnType<typeof spliceMaps>;

/** The arrays of a splicer, by flow. */
export interface FlowMaps {
  readonly carried: HandleOf<Maps['carried']>;
  readonly allowed: HandleOf<Maps['allowed']>;
}

/** Those, and the maps that sockets go into. */
export interface PlaceMaps extends FlowMaps {
  readonly peers: HandleOf<Maps['peers']>;
  readonly flows: HandleOf<Maps['flows']>;
}

/** A socket that the program sees. */
export interface Place {
  /** The flow of what comes in at it, and the one that leads to it. */
  readonly from: number;
  readonly to: number;
  readonly fd: number;
  readonly reader: SocketReader;
  /** Bytes of it that came to this process before, and where the connection stood then: what of it had been read. */
  readonly early: bigint;
  readonly read: bigint;
  /** Has the program leave to the process all that comes in, uncounted. The socket stays where it is. */
  retire(): void;
  /** Takes it out of the maps. Data that are on their way to it, and those that wait at it, go with its place. */
  leave(): void;
}

/** Why a socket cannot have a place. */
export interface NoPlace {
  readonly reason: string;
  readonly cause?: unknown;
}

/** The places of one splicer. */
export class Places {
  readonly #maps: PlaceMaps;
  readonly #sockets: TcpSockets;
  readonly #free: number[];

  /** Those that a process left which is gone make room. */
  constructor(maps: PlaceMaps, sockets: TcpSockets, pairs: number) {
    this.#maps = maps;
    this.#sockets = sockets;
    this.#free = Array.from({ length: 2 * pairs }, (_, index) => index).reverse();
    for (const [key] of [...maps.flows.entries()]) maps.flows.delete(key);
  }

  /** Puts a socket into the maps, as the partner of one that is there or for one to come; `early` bytes of it are in this process. */
  enter(socket: Socket, early: bigint, partner?: Place): Place | NoPlace {
    const { peers, flows, carried } = this.#maps;
    const fd = this.#sockets.descriptorOf(socket);
    if (fd === undefined) return { reason: 'one side is no TCP socket' };
    using undo = new DisposableStack();
    const ways = partner ? { from: partner.to, to: partner.from } : this.#reserve(undo);
    if (!ways) return { reason: 'there is no room for another pair' };
    try {
      const key = connectionKeyOf(socket);
      const read = this.#readOf(fd);
      // of a socket that nobody has read from, all segments are whole: stages behind see them
      const left = read === 0n ? 0n : this.#takeAll(socket, fd);
      if (left > 0n) carried.set(ways.from, { sent: 0n, left, next: 0, state: FlowState.fresh });
      flows.set(key, ways.from, 'noexist');
      undo.defer(() => flows.delete(key));
      peers.set(ways.to, fd, 'noexist');
      undo.defer(() => peers.delete(ways.to));
      const reader = this.#sockets.readerOf(socket, fd);
      const kept = undo.move();
      let isRetired = false;
      const retire = (): void => {
        isRetired = true;
        flows.delete(key);
      };
      // retired, the maps may be closed, and sockets that are closed are in none
      const leave = (): void => {
        reader[Symbol.dispose]();
        if (!isRetired) kept.dispose();
      };
      return { ...ways, fd, reader, early, read, retire, leave };
    } catch (cause) {
      if (!(cause instanceof TailraceError)) throw cause;
      return { reason: `the kernel does not take the sockets: ${cause.message}`, cause };
    }
  }

  /**
   * Has Node take what waits at a socket, and returns how many bytes that is. Of a segment that was read in part the kernel would hand all
   * to the program.
   */
  #takeAll(socket: Socket, fd: number): bigint {
    let taken = 0n;
    for (let bytes = this.#sockets.readBytes(fd); bytes; bytes = this.#sockets.readBytes(fd)) {
      taken += BigInt(bytes.length);
      socket.push(bytes);
    }
    return taken;
  }

  /** Bytes of a connection that were read. */
  #readOf(fd: number): bigint {
    for (;;) {
      const { received } = this.#sockets.progressOf(fd);
      const unread = BigInt(this.#sockets.unreadOf(fd));
      if (this.#sockets.progressOf(fd).received === received) return received - unread;
    }
  }

  /** Two flows, one each way, on which all is left to the process until `start` says otherwise. */
  #reserve(undo: DisposableStack): { from: number; to: number } | undefined {
    const [from, to] = [this.#free.pop(), this.#free.pop()];
    if (from === undefined || to === undefined) {
      if (from !== undefined) this.#free.push(from);
      return undefined;
    }
    undo.defer(() => this.#free.push(to, from));
    const { carried, allowed } = this.#maps;
    for (const index of [from, to]) {
      carried.set(index, { sent: 0n, left: 0n, next: 0, state: FlowState.fresh });
      allowed.set(index, { passedOn: 0n, until: 0n, mark: 0n });
    }
    return { from, to };
  }
}
