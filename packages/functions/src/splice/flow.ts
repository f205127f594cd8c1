/**
 * One direction of a pair. The program sends on what it may; what it leaves arrives here as the source's data and is written to the
 * target, once everything that the program sent before is in the target's hands.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HandleOf } from '@tailrace/stage';
import type { Reading, TcpSockets } from './sockets.ts';
import type { spliceMaps } from './stage.ts';

type Maps = ReturnType<typeof spliceMaps>;

/** The arrays of a splicer. */
export interface FlowMaps {
  readonly carried: HandleOf<Maps['carried']>;
  readonly allowed: HandleOf<Maps['allowed']>;
}

/** What a flow is made of. */
export interface FlowParts extends FlowMaps {
  readonly source: Socket;
  readonly target: Socket;
  readonly sourceFd: number;
  readonly targetFd: number;
  readonly sockets: TcpSockets;
  /** Its place in the arrays. */
  readonly index: number;
  /** Bytes that were passed on before. */
  readonly early: bigint;
  /** Of those, the ones that the program has counted as left to the process. */
  readonly counted: bigint;
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

export class Flow {
  readonly #parts: FlowParts;
  #base: { readonly sent: bigint; readonly confirmed: bigint } | undefined;
  #passedOn = 0n;
  #stats: FlowStats | undefined;
  /** What is being passed on; the end waits for it. */
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  /** Nothing is sent on before `start`. */
  constructor(parts: FlowParts) {
    this.#parts = parts;
  }

  get stats(): FlowStats {
    const { carried, index, early } = this.#parts;
    return this.#stats ?? { sent: carried.get(index)?.sent ?? 0n, passedOn: early + this.#passedOn };
  }

  /** From here on: the target has taken everything that was written to it. At once, before the loop turns. */
  start(): void {
    const { source, sourceFd, target, targetFd, sockets } = this.#parts;
    this.#base = sockets.progressOf(targetFd);
    this.#grant();
    source.on('data', this.#take);
    source.once('end', () => {
      // Node may be told of the end ahead of data that the kernel has still in hand, and may close the socket at once
      const rest = this.#owed() > 0n ? sockets.keepReading(sourceFd) : undefined;
      void this.#work.then(() => this.#finish(rest)).catch((error: unknown) => target.destroy(error as Error));
    });
  }

  /** Sends nothing on any more; the numbers stay. */
  stop(): void {
    this.#stats = this.stats;
    this.#stopped = true;
    this.#parts.source.off('data', this.#take);
  }

  #take = (chunk: Buffer): void => {
    const { source, target } = this.#parts;
    source.pause();
    this.#work = this.#work
      .then(() => this.#passOn(chunk))
      .then(() => {
        source.resume();
      })
      .catch((error: unknown) => {
        target.destroy(error as Error);
      });
  };

  async #passOn(chunk: Uint8Array): Promise<void> {
    await this.#arrived();
    if (this.#stopped) return;
    await new Promise<void>((resolve, reject) => {
      this.#parts.target.write(chunk, (error) => (error ? reject(error) : resolve()));
    });
    this.#passedOn += BigInt(chunk.length);
    if (!this.#stopped) this.#grant();
  }

  /** Bytes that the program has left to the process, and that are not passed on. */
  #owed(): bigint {
    const { carried, index, counted } = this.#parts;
    return (carried.get(index)?.left ?? 0n) - counted - this.#passedOn;
  }

  async #finish(rest: Reading | undefined): Promise<void> {
    using reading = rest;
    while (reading && !this.#stopped && this.#owed() > 0n) {
      const chunk = reading.read();
      if (chunk) await this.#passOn(chunk);
      else await sleep(LEAST_MS);
    }
    await this.#arrived();
    if (!this.#stopped) this.#parts.target.end();
  }

  /** Waits until what the program sent on, and what was passed on, is with the target's TCP. */
  async #arrived(): Promise<void> {
    const { carried, index, sockets, targetFd, target } = this.#parts;
    for (let wait = LEAST_MS; !this.#stopped && !target.destroyed; wait = Math.min(2 * wait, MOST_MS)) {
      const { sent = 0n } = carried.get(index) ?? {};
      if (sockets.progressOf(targetFd).sent - (this.#base?.sent ?? 0n) >= sent + this.#passedOn) return;
      await sleep(wait);
    }
  }

  /** Says how far the program may go: as far as the target's peer has confirmed, and the limit more. */
  #grant(): void {
    const { allowed, index, sockets, targetFd, limit, counted } = this.#parts;
    const confirmed = sockets.progressOf(targetFd).confirmed - (this.#base?.confirmed ?? 0n) - this.#passedOn;
    allowed.set(index, { passedOn: counted + this.#passedOn, until: (confirmed > 0n ? confirmed : 0n) + limit });
  }
}
