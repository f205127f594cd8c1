/** Joins sockets in pairs. */
import type { Socket } from 'node:net';
import type { GracePeriod } from '@tailrace/pipeline';
import { ArgumentError, type HandleOf, TailraceError } from '@tailrace/stage';
import type { Subscription } from 'rxjs';
import { Choice } from './choice.ts';
import { Flow, type FlowStats } from './flow.ts';
import { type Carrier, Pair, type Spliced } from './pair.ts';
import { pipeOne } from './piping.ts';
import { type NoPlace, type Place, type PlaceMaps, Places } from './place.ts';
import { checkSocket, closeTogether, drain, quieten } from './socket-pair.ts';
import type { TcpSockets } from './sockets.ts';
import type { spliceMaps } from './stage.ts';

/** What the controller works on. */
export interface SpliceNeeds extends PlaceMaps {
  readonly news: HandleOf<ReturnType<typeof spliceMaps>['news']>;
  readonly sockets: TcpSockets;
  readonly gracePeriod: GracePeriod;
}

/** How to join two sockets. */
export interface SpliceOptions {
  /** Bytes that may wait for a slow reader, each way; default 4 MiB. TCP holds the sender back beyond. */
  readonly limitBytes?: number;
  /**
   * Who is to carry the bytes; default `measured`: the kernel, but pairs that move much go through this process while that is found to be
   * faster. With `process` nothing is put into the kernel's maps.
   */
  readonly carry?: 'kernel' | 'process' | 'measured';
  /** Throw where the kernel cannot take a pair, instead of piping it in this process. */
  readonly require?: 'kernel';
}

/** Two sockets on their way to be joined. */
interface Ends {
  readonly a: Socket;
  readonly b: Socket;
  /** Bytes that were passed on already. */
  readonly early: { forth: bigint; back: bigint };
  readonly limit: bigint;
  readonly closed: Promise<void>;
}

/** Joins sockets in pairs: what comes in at one goes out of the other. */
export class SpliceController implements AsyncDisposable {
  readonly #needs: SpliceNeeds;
  readonly #places: Places;
  readonly #choice = new Choice();
  readonly #joined = new WeakSet<Socket>();
  readonly #held = new Map<Socket, Place>();
  readonly #pairs = new Set<Pair>();
  /** By their places in the arrays; without a pair where only one side is in the maps. */
  readonly #flows = new Map<number, { readonly flow: Flow; readonly place: Place; readonly pair?: Pair }>();
  /** News of flows, while there are any. */
  #news: Subscription | undefined;
  #isStopped = false;

  constructor(needs: SpliceNeeds, pairs: number) {
    this.#needs = needs;
    this.#places = new Places(needs, needs.sockets, pairs);
  }

  /** Pairs that the kernel carries, or leaves to this process for a while. */
  get size(): number {
    return this.#pairs.size;
  }

  /**
   * Has the program see an established connection whose partner is to be found yet: what comes in meets the stages behind the
   * splicer's, and waits for `splice`, which then joins it from its first byte on. Returns who sees it; where that is not the kernel, why.
   * Throws ArgumentError for a socket that is closed, held or joined, or that something else reads.
   */
  hold(socket: Socket): Carrier {
    this.#check(socket);
    if (this.#held.has(socket)) throw new ArgumentError('splice: the socket is held already');
    quieten(socket);
    const place = this.#places.enter(socket, BigInt(socket.readableLength));
    if ('reason' in place) return { process: place.reason };
    this.#keep(socket, place);
    this.#needs.sockets.wake(place.fd);
    return 'kernel';
  }

  /**
   * Joins two established connections, of which nothing but `splice` reads or writes from then on. Bytes that have come are not lost,
   * a half-close goes through, an error or a reset of one ends the other. Where the kernel cannot take the pair (another kind of
   * socket, one that is half closed already, no room) this process pipes it, and `by` says why; pairs that there are when the pipeline
   * stops go on that way. Throws ArgumentError for sockets that are closed, joined already, or one and the same, or both held, or that
   * something else reads, and once the pipeline has stopped; with `require` what keeps the kernel from taking them.
   */
  async splice(a: Socket, b: Socket, options: SpliceOptions = {}): Promise<Spliced> {
    const { limitBytes = 2 ** 22, carry = 'measured' } = options;
    if (!Number.isSafeInteger(limitBytes) || limitBytes < 1)
      throw new ArgumentError(`splice: limitBytes is ${limitBytes}, expected 1 or more`);
    if (a === b) throw new ArgumentError('splice: a socket cannot be joined with itself');
    for (const socket of [a, b]) this.#check(socket);
    if (this.#held.has(a) && this.#held.has(b)) throw new ArgumentError('splice: both sockets are held, expected one at most');
    for (const socket of [a, b]) {
      this.#joined.add(socket);
      quieten(socket);
    }
    const ends: Ends = { a, b, early: { forth: 0n, back: 0n }, limit: BigInt(limitBytes), closed: closeTogether(a, b) };
    const reason = (await drain(a, b, ends.early)) ?? (carry === 'process' ? 'it was asked to' : undefined);
    const taken = reason === undefined ? this.#take(ends, carry === 'measured') : { reason };
    if (taken instanceof Pair) return taken;
    if (options.require !== 'kernel' && !this.#isStopped) return this.#pipe(ends, taken.reason);
    for (const socket of [a, b]) socket.destroy();
    this.#checkRunning();
    throw new TailraceError('unsupported', `splice: ${taken.reason}`, { cause: taken.cause });
  }

  /** Sockets stay where they are, and this process carries on what is joined. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    this.#news?.unsubscribe();
    for (const pair of this.#pairs) pair.leave('the pipeline has stopped');
    for (const place of this.#held.values()) place.retire();
    for (const { flow, place } of this.#flows.values()) {
      flow.leave();
      place.retire();
    }
    await this.#needs.gracePeriod();
    for (const { flow } of this.#flows.values()) flow.retire();
  }

  #check(socket: Socket): void {
    this.#checkRunning();
    if (this.#joined.has(socket)) throw new ArgumentError('splice: the socket is joined already');
    checkSocket(socket);
  }

  #checkRunning(): void {
    if (this.#isStopped) throw new ArgumentError('splice: the pipeline has stopped');
  }

  /** Has the kernel take a pair. What it has taken of one that it does not take is held. */
  #take({ a, b, early, limit, closed }: Ends, isMeasured: boolean): Pair | NoPlace {
    const { sockets } = this.#needs;
    const placeA = this.#placeOf(a, early.forth, this.#held.get(b));
    if ('reason' in placeA) return placeA;
    const placeB = this.#placeOf(b, early.back, placeA);
    if ('reason' in placeB) return placeB;
    for (const socket of [a, b]) this.#held.delete(socket);
    const parts = { maps: this.#needs, sockets, limit };
    const forth = new Flow({ ...parts, source: a, target: b, place: placeA, targetFd: placeB.fd, early: early.forth });
    const back = new Flow({ ...parts, source: b, target: a, place: placeB, targetFd: placeA.fd, early: early.back });
    const pair = new Pair({ forth, back }, { closed, limit, choice: isMeasured ? this.#choice : undefined });
    this.#pairs.add(pair);
    this.#begin({ flow: forth, place: placeA, pair });
    this.#begin({ flow: back, place: placeB, pair });
    pair.start();
    // what came before the program was there waits, until somebody asks for it
    for (const { fd } of [placeA, placeB]) sockets.wake(fd);
    for (const socket of [a, b]) socket.resume();
    // not before both are closed: what is on its way to one of them goes with its place, and so does what waits in it
    void closed.then(() => {
      pair.stop();
      this.#pairs.delete(pair);
      for (const place of [placeA, placeB]) this.#end(place);
    });
    return pair;
  }

  /** Has this process pipe a pair; of a socket that is in the maps all the same it reads what the program leaves. */
  #pipe({ a, b, early, limit, closed }: Ends, reason: string): Spliced {
    const { sockets } = this.#needs;
    const one = (source: Socket, target: Socket, before: bigint): (() => FlowStats) => {
      const place = this.#held.get(source);
      if (!place) {
        const piped = pipeOne(source, target);
        return () => ({ sent: 0n, passedOn: before + piped() });
      }
      this.#held.delete(source);
      const flow = new Flow({ maps: this.#needs, sockets, source, target, place, targetFd: undefined, early: before, limit });
      this.#begin({ flow, place });
      flow.start();
      sockets.wake(place.fd);
      source.resume();
      void closed.then(() => {
        flow.stop();
        this.#end(place);
      });
      return () => flow.stats;
    };
    const [forth, back] = [one(a, b, early.forth), one(b, a, early.back)];
    return {
      by: { process: reason },
      moves: 0,
      closed,
      move: () => false,
      get stats() {
        return { forth: forth(), back: back() };
      },
    };
  }

  #placeOf(socket: Socket, early: bigint, partner: Place | undefined): Place | NoPlace {
    const held = this.#held.get(socket);
    if (held) return held;
    const entered = this.#places.enter(socket, early, partner);
    if (!('reason' in entered)) this.#keep(socket, entered);
    return entered;
  }

  /** Until it is joined, or closed. */
  #keep(socket: Socket, place: Place): void {
    this.#held.set(socket, place);
    socket.once('close', () => {
      if (this.#held.delete(socket)) place.leave();
    });
  }

  #begin(one: { readonly flow: Flow; readonly place: Place; readonly pair?: Pair }): void {
    this.#flows.set(one.place.from, one);
    this.#news ??= this.#needs.news.events$.subscribe((index) => {
      const { flow, pair } = this.#flows.get(index) ?? {};
      if (flow?.look()) pair?.spent();
    });
  }

  #end(place: Place): void {
    place.leave();
    this.#flows.delete(place.from);
    if (this.#flows.size > 0) return;
    this.#news?.unsubscribe();
    this.#news = undefined;
  }
}
