/**
 * Which way is faster for pairs that move much: it depends on the machine, on what else it does and on the connection's path, so it
 * is measured, on one pair and for all of them, and again after a while. The kernel's way spares this process the work, so a pair
 * goes through the process only where that is clearly faster.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** A pair that can be led both ways. */
export interface Candidate {
  readonly isOver: boolean;
  /** Bytes of both directions that have arrived. */
  readonly arrived: bigint;
  /** How many in `everyMs` make it a pair that moves much. */
  readonly bulk: bigint;
  /** Through the process, for this reason. */
  hold(reason: string): void;
  /** Through the kernel. */
  release(): void;
}

/** How the choice is made. */
export interface ChoiceOptions {
  /** How much faster the process has to be. */
  readonly margin: number;
  /** How long each way is watched, and how long a pair has to settle on it before. */
  readonly windowMs: number;
  readonly settleMs: number;
  /** How often to see whether a pair that goes through the process still moves much. */
  readonly everyMs: number;
  /** How long a finding holds at first, and at most: each time that it is found again it holds twice as long. */
  readonly holdsMs: readonly [least: number, most: number];
}

/** What `splicer()` takes. */
export const CHOICE: ChoiceOptions = { margin: 1.25, windowMs: 250, settleMs: 50, everyMs: 100, holdsMs: [5_000, 300_000] };

interface Finding {
  /** Why a pair goes through the process; undefined where the kernel carries it. */
  readonly reason: string | undefined;
  readonly forMs: number;
  readonly until: number;
}

export class Choice {
  readonly #options: ChoiceOptions;
  readonly #led = new WeakSet<Candidate>();
  #finding: Finding | undefined;
  #isMeasuring = false;

  constructor(options: ChoiceOptions = CHOICE) {
    this.#options = options;
  }

  /** Of a pair that the kernel carries and that moves much: leaves it there, or leads it through the process for as long as it does. */
  async consider(pair: Candidate): Promise<void> {
    if (this.#led.has(pair)) return;
    this.#led.add(pair);
    try {
      if ((this.#finding?.until ?? 0) <= performance.now() && !this.#isMeasuring) await this.#measure(pair);
      await this.#follow(pair);
    } finally {
      this.#led.delete(pair);
    }
  }

  async #measure(pair: Candidate): Promise<void> {
    const { margin, settleMs, holdsMs } = this.#options;
    this.#isMeasuring = true;
    try {
      const kernel = await this.#rateOf(pair);
      pair.hold('it is being measured');
      await sleep(settleMs);
      const process = await this.#rateOf(pair);
      if (pair.isOver || kernel === 0 || process === 0) return;
      const reason =
        process > margin * kernel ? `measured: ${megabytes(process)} by the process, ${megabytes(kernel)} by the kernel` : undefined;
      const isKnown = this.#finding !== undefined && (reason === undefined) === (this.#finding.reason === undefined);
      const forMs = isKnown ? Math.min(2 * (this.#finding?.forMs ?? 0), holdsMs[1]) : holdsMs[0];
      this.#finding = { reason, forMs, until: performance.now() + forMs };
    } finally {
      this.#isMeasuring = false;
      if (this.#finding?.reason === undefined) pair.release();
    }
  }

  async #follow(pair: Candidate): Promise<void> {
    const { everyMs } = this.#options;
    const { reason, until } = this.#finding ?? { reason: undefined, until: 0 };
    if (reason === undefined) return;
    pair.hold(reason);
    let before = pair.arrived;
    while (!pair.isOver && performance.now() < until) {
      await sleep(everyMs);
      const now = pair.arrived;
      if (now - before < pair.bulk) break;
      before = now;
    }
    pair.release();
  }

  /** Bytes a second. */
  async #rateOf(pair: Candidate): Promise<number> {
    const [from, before] = [performance.now(), pair.arrived];
    await sleep(this.#options.windowMs);
    return (Number(pair.arrived - before) / (performance.now() - from)) * 1000;
  }
}

function megabytes(rate: number): string {
  return `${(rate / 1e6).toFixed(0)} MB/s`;
}
