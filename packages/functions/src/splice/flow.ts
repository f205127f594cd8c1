/**
 * One direction of a pair. The program sends on what it may, and nobody reads the source meanwhile. What it leaves arrives here as the
 * source's data and is written to the target, once everything that the program sent before is in the target's hands. From then on the
 * process *passes on*, as a pipe does, until it has written all that was left to it: only then does the program send again.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TailraceError } from '@tailrace/stage';
import type { FlowMaps, Place } from './place.ts';
import type { Reading, TcpSockets } from './sockets.ts';
import { FlowState } from './stage.ts';

/** What a flow is made of. */
export interface FlowParts {
  readonly maps: FlowMaps;
  readonly sockets: TcpSockets;
  readonly source: Socket;
  readonly target: Socket;
  /** The source's place. */
  readonly place: Place;
  /** Absent where the target is nothing that the program can send to: the process passes on all. */
  readonly targetFd: number | undefined;
  /** Bytes that were passed on before. */
  readonly early: bigint;
  /** Bytes that may wait for the target's reader, of those that the program sent on. */
  readonly limit: bigint;
}

/** Bytes that went one way. */
export interface FlowStats {
  /** Without a copy to this process. */
  readonly sent: bigint;
  /** Through this process. */
  readonly passedOn: bigint;
}

/** From how long on to wait between two looks at a backlog, and up to how long, in ms. */
const [LEAST_MS, MOST_MS] = [1, 20];

/** Bytes that one flow moves before others have their turn. */
const TURN_BYTES = 2 ** 22;

export class Flow {
  readonly #parts: FlowParts;
  /** Of the early bytes, those that the program has counted as left. */
  readonly #counted: bigint;
  #base = { sent: 0n, confirmed: 0n };
  #passedOn = 0n;
  /** Whether the process writes what comes: the program has nothing under way, and sends nothing. */
  #isPassing = false;
  #isHeld = false;
  #isLeft = false;
  #isOver = false;
  /** From where on the program tells of what it has sent. */
  #mark = 0n;
  /** What has come at the source, once it has ended. */
  #received = 0n;
  /** What the program sent, once it sends no more. */
  #sentInAll: bigint | undefined;
  #stats: FlowStats | undefined;
  #wait: NodeJS.Timeout | undefined;
  /** What holds the source up; the end waits for it. */
  #work: Promise<void> = Promise.resolve();

  /** Nothing is sent on before `start`. */
  constructor(parts: FlowParts) {
    this.#parts = parts;
    this.#counted = parts.early - parts.place.early;
  }

  get stats(): FlowStats {
    return this.#stats ?? { sent: this.#sent(), passedOn: this.#parts.early + this.#passedOn };
  }

  /** Bytes that the target's peer has confirmed since `start`. */
  get confirmed(): bigint {
    return this.#progress().confirmed - this.#base.confirmed;
  }

  /** From here on: the target has taken everything that was written to it. At once, before the loop turns. */
  start(): void {
    const { source, place, target, targetFd, sockets } = this.#parts;
    this.#base = this.#progress();
    source.on('data', this.#take);
    if (targetFd === undefined) this.hold();
    else {
      this.#grant();
      this.#rest();
    }
    const end = (): void => {
      // Node may be told of the end ahead of data that the kernel has still in hand, and may close the socket at once
      const isOpen = !source.destroyed;
      if (isOpen) this.#received = sockets.progressOf(place.fd).received;
      const rest = isOpen && this.#owed() > 0n ? sockets.keepReading(place.fd) : undefined;
      void this.#work.then(() => this.#finish(rest)).catch((error: unknown) => target.destroy(error as Error));
    };
    if (source.readableEnded) end();
    else source.once('end', end);
  }

  /** The program has news of it. True where it has used up half of what it may send. */
  look(): boolean {
    if (this.#isOver) return false;
    const { maps, place, source } = this.#parts;
    if (maps.carried.get(place.from)?.state === FlowState.broken) {
      source.destroy(new TailraceError('conflict', 'splice: bytes that TCP brought twice could not be taken off'));
      return false;
    }
    if (this.#owed() > 0n) place.reader.start();
    const isSpent = this.#sent() >= this.#mark;
    if (isSpent) this.#refill();
    return isSpent;
  }

  /** Has the process pass on all that comes from now on. */
  hold(): void {
    this.#isHeld = true;
    if (this.#isOver) return;
    this.#allow(0n);
    this.#parts.place.reader.start();
  }

  /** Has the program send again, as soon as nothing is left to the process. */
  release(): void {
    this.#isHeld = false;
    if (this.#isOver) return;
    if (this.#isPassing) return this.#giveBack();
    this.#grant();
    this.#rest();
  }

  /** Has the process pass on all for good: from now on the program need not count what it leaves. */
  leave(): void {
    this.#isLeft = true;
    this.hold();
  }

  /** Of a flow that is left, once no program runs that does not know it: maps are not asked any more. */
  retire(): void {
    this.#sentInAll = this.#sent();
  }

  /** Sends and passes on nothing any more; the numbers stay. */
  stop(): void {
    this.#stats = this.stats;
    this.#isOver = true;
    clearTimeout(this.#wait);
    this.#parts.source.off('data', this.#take);
  }

  #take = (chunk: Buffer): void => {
    const { source, target } = this.#parts;
    const isFirst = !this.#isPassing;
    if (!isFirst && this.#write(chunk) && this.#moveOn()) return this.#giveBack();
    source.pause();
    this.#work = (isFirst ? this.#arrived().then(() => this.#writeOut(chunk)) : drained(target))
      .then(() => {
        this.#giveBack();
        source.resume();
      })
      .catch((error: unknown) => {
        target.destroy(error as Error);
      });
  };

  /** False where the target wants no more for now. */
  #write(chunk: Uint8Array): boolean {
    if (this.#isOver) return true;
    this.#isPassing = true;
    this.#passedOn += BigInt(chunk.length);
    return this.#parts.target.write(chunk);
  }

  async #writeOut(chunk: Uint8Array): Promise<void> {
    if (!this.#write(chunk)) await drained(this.#parts.target);
  }

  /** What waits behind a chunk goes past Node, as far as the target takes it. False where it wants no more for now. */
  #moveOn(): boolean {
    const { source, target, place, targetFd } = this.#parts;
    if (targetFd === undefined) return true;
    const isOpen = (): boolean => !this.#isOver && !source.destroyed && !target.destroyed;
    for (let left = TURN_BYTES; left > 0 && isOpen() && source.readableLength === 0 && target.writableLength === 0; ) {
      const { moved, rest } = this.#moved(place.fd, targetFd);
      if (moved === 0) return true;
      this.#passedOn += BigInt(moved - (rest?.length ?? 0));
      if (rest && !this.#write(rest)) return false;
      left -= moved;
    }
    return true;
  }

  #moved(from: number, to: number): ReturnType<TcpSockets['moveBytes']> {
    try {
      return this.#parts.sockets.moveBytes(from, to);
    } catch (error) {
      this.#parts.source.destroy(error as Error);
      return { moved: 0 };
    }
  }

  /** Lets the program send, unless something is left to the process: what it has not read, what it has not written. */
  #giveBack(): void {
    const { maps, place, target } = this.#parts;
    if (this.#isHeld || this.#isOver || target.writableLength > 0) return;
    const { left, sent } = maps.carried.get(place.from) ?? { left: -1n, sent: 0n };
    if (left !== this.#counted + this.#passedOn) return;
    this.#isPassing = this.#grant().until <= sent;
    if (!this.#isPassing) this.#rest();
  }

  /** Has nobody be woken for what the program sends on, unless something is left: of the first bytes it tells. */
  #rest(): void {
    if (this.#owed() === 0n) this.#parts.place.reader.stop();
  }

  /** Gives the program more as the reader comes along. */
  #refill(waitMs = LEAST_MS): void {
    clearTimeout(this.#wait);
    if (this.#isPassing || this.#isHeld || this.#isOver) return;
    this.#grant();
    // a reader that is slower than this is served by the process, which TCP holds back
    if (this.#sent() >= this.#mark && waitMs <= MOST_MS) this.#wait = setTimeout(() => this.#refill(2 * waitMs), waitMs);
  }

  /** Where the target stands: as it was, once it is closed. */
  #progress(): { readonly sent: bigint; readonly confirmed: bigint } {
    const { sockets, target, targetFd } = this.#parts;
    return targetFd === undefined || target.destroyed ? this.#base : sockets.progressOf(targetFd);
  }

  #sent(): bigint {
    const { maps, place } = this.#parts;
    return this.#sentInAll ?? maps.carried.get(place.from)?.sent ?? 0n;
  }

  /** Bytes that were left to the process, and that it has not written. */
  #owed(): bigint {
    const { maps, place } = this.#parts;
    const done = this.#counted + this.#passedOn;
    if (!this.#isLeft) return (maps.carried.get(place.from)?.left ?? 0n) - done;
    const end = 1n;
    return this.#received - end - place.read - this.#sent() - done;
  }

  async #finish(rest: Reading | undefined): Promise<void> {
    using reading = rest;
    while (reading && !this.#isOver && this.#owed() > 0n) {
      const chunk = reading.read();
      if (chunk && !this.#isPassing) await this.#arrived();
      if (chunk) await this.#writeOut(chunk);
      else await sleep(LEAST_MS);
    }
    if (!this.#isPassing) await this.#arrived();
    if (!this.#isOver) this.#parts.target.end();
  }

  /** Waits until what the program sent on, and what was passed on, is with the target's TCP. */
  async #arrived(): Promise<void> {
    const { targetFd, target } = this.#parts;
    if (targetFd === undefined) return;
    for (let wait = LEAST_MS; !this.#isOver && !target.destroyed && !this.#hasArrived(); wait = Math.min(2 * wait, MOST_MS))
      await sleep(wait);
  }

  #hasArrived(): boolean {
    return this.#progress().sent - this.#base.sent >= this.#sent() + this.#passedOn;
  }

  /** Says how far the program may go: as far as the target's peer has confirmed, and the limit more. It tells when half of that is used. */
  #grant(): { readonly until: bigint; readonly mark: bigint } {
    const { limit } = this.#parts;
    const confirmed = this.confirmed - this.#passedOn;
    const until = (confirmed > 0n ? confirmed : 0n) + limit;
    return this.#allow(until, until - limit / 2n);
  }

  #allow(until: bigint, mark = until): { readonly until: bigint; readonly mark: bigint } {
    const { maps, place } = this.#parts;
    this.#mark = mark;
    maps.allowed.set(place.from, { passedOn: this.#counted + this.#passedOn, until, mark });
    return { until, mark };
  }
}

/** Resolves once a socket takes more, or never will. */
function drained(target: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (target.destroyed || !target.writableNeedDrain) return resolve();
    const done = (): void => {
      target.off('drain', done).off('close', done);
      resolve();
    };
    target.on('drain', done).on('close', done);
  });
}
