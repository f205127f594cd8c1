/** Two sockets that are joined: who carries their bytes, and how many. */
import type { Candidate, Choice } from './choice.ts';
import type { Flow, FlowStats } from './flow.ts';

/** Who carries a pair's bytes, and where it is this process, why. */
export type Carrier = 'kernel' | { readonly process: string };

/** A pair of sockets. */
export interface Spliced {
  /** Who carries the bytes now. What the kernel cannot send on as fast as it comes passes through the process all the same: see `stats`. */
  readonly by: Carrier;
  /** How often another took over. */
  readonly moves: number;
  /** Bytes from the first socket to the second, and back. */
  readonly stats: { readonly forth: FlowStats; readonly back: FlowStats };
  /** Resolves once both sockets are closed, whatever closed them. */
  readonly closed: Promise<void>;
  /**
   * Has this process carry the pair from now on, or the kernel again; nothing is measured any more. Bytes keep their order. False where
   * the kernel cannot have it, or the pair is over.
   */
  move(to: 'kernel' | 'process'): boolean;
}

/** Half of its limit twice within so many ms is what makes a pair that moves much. */
const BULK_MS = 100;

/** A pair that the kernel has: it carries it, or leaves it to the process. */
export class Pair implements Spliced, Candidate {
  readonly closed: Promise<void>;
  /** Half of what may wait for a reader. */
  readonly bulk: bigint;
  readonly #forth: Flow;
  readonly #back: Flow;
  #choice: Choice | undefined;
  #by: Carrier = 'kernel';
  #moves = 0;
  #isOver = false;
  /** When one of the flows came to its mark. */
  #spentAt = Number.NEGATIVE_INFINITY;

  /** With a choice, that leads it. */
  constructor(
    { forth, back }: { readonly forth: Flow; readonly back: Flow },
    { closed, limit, choice }: { readonly closed: Promise<void>; readonly limit: bigint; readonly choice: Choice | undefined },
  ) {
    this.#forth = forth;
    this.#back = back;
    this.closed = closed;
    this.bulk = limit / 2n;
    this.#choice = choice;
  }

  get by(): Carrier {
    return this.#by;
  }

  get moves(): number {
    return this.#moves;
  }

  get stats(): Spliced['stats'] {
    return { forth: this.#forth.stats, back: this.#back.stats };
  }

  get isOver(): boolean {
    return this.#isOver || this.#choice === undefined;
  }

  get arrived(): bigint {
    return this.#forth.confirmed + this.#back.confirmed;
  }

  /** From here on the kernel carries it. At once, before the loop turns. */
  start(): void {
    this.#forth.start();
    this.#back.start();
  }

  /** One of its flows has come to its mark. */
  spent(): void {
    const now = performance.now();
    if (now - this.#spentAt < BULK_MS && !this.isOver) void this.#choice?.consider(this);
    this.#spentAt = now;
  }

  move(to: 'kernel' | 'process'): boolean {
    if (this.#isOver) return false;
    this.#choice = undefined;
    if (to === 'kernel') this.#lead('kernel');
    else this.#lead({ process: 'it was moved' });
    return true;
  }

  hold(reason: string): void {
    if (!this.isOver) this.#lead({ process: reason });
  }

  release(): void {
    if (!this.isOver) this.#lead('kernel');
  }

  /** The process carries it from now on, for good. */
  leave(reason: string): void {
    this.#lead({ process: reason });
    this.#isOver = true;
  }

  /** Once both sockets are closed. */
  stop(): void {
    this.#isOver = true;
    this.#forth.stop();
    this.#back.stop();
  }

  #lead(to: Carrier): void {
    if ((to === 'kernel') !== (this.#by === 'kernel')) this.#moves += 1;
    this.#by = to;
    for (const flow of [this.#forth, this.#back]) to === 'kernel' ? flow.release() : flow.hold();
  }
}
