/**
 * News of records in the engine's memory: a flag says that a reader waits, a number rises when a program woke it. Programs run
 * on this thread, whose engine looks at the flag afterwards, and on others, for which a promise waits.
 */
import type { RecordAlarm } from '@tailrace/bpf';

/** The longest that a timer waits, ms: it is there to keep the process alive. */
const FOR_EVER = 0x7fff_ffff;

/** Rings where a program has woken the reader. */
export class WakeAlarm implements RecordAlarm, Disposable {
  readonly #words: Int32Array<SharedArrayBuffer>;
  /** Indexes of words. */
  readonly #flag: number;
  readonly #wakes: number;
  readonly #isPending: () => boolean;
  /** Set while armed. */
  #ring: (() => void) | undefined;
  /** A promise is under way that is settled when the number of wakes changes. */
  #waits = false;
  #alive: NodeJS.Timeout | undefined;

  /** `flag` and `wakes`: addresses. `isPending`: whether there is something to be read. */
  constructor(buffer: SharedArrayBuffer, flag: number, wakes: number, isPending: () => boolean) {
    this.#words = new Int32Array(buffer);
    this.#flag = flag >>> 2;
    this.#wakes = wakes >>> 2;
    this.#isPending = isPending;
  }

  start(ring: () => void): void {
    this.#ring = ring;
    this.#alive = setInterval(() => undefined, FOR_EVER);
    const seen = Atomics.load(this.#words, this.#wakes);
    Atomics.store(this.#words, this.#flag, 1);
    if (this.#isPending()) ring();
    else if (!this.#waits) this.#wait(seen);
  }

  stop(): void {
    this.#ring = undefined;
    Atomics.store(this.#words, this.#flag, 0);
    clearInterval(this.#alive);
  }

  /** For the engine, once programs ran on this thread. */
  notify(): void {
    if (this.#ring && Atomics.load(this.#words, this.#flag) === 0) this.#ring();
  }

  [Symbol.dispose](): void {
    this.stop();
    if (this.#waits) Atomics.notify(this.#words, this.#wakes);
  }

  /** Until the number of wakes is no longer the one that was seen. */
  #wait(seen: number): void {
    const { async: isAsync, value } = Atomics.waitAsync(this.#words, this.#wakes, seen);
    if (!isAsync) return this.#ring?.();
    this.#waits = true;
    void value.then(() => {
      this.#waits = false;
      if (this.#ring === undefined) return;
      // Disarmed and armed again since: the wake was for the time before.
      if (Atomics.load(this.#words, this.#flag) === 1 && !this.#isPending()) this.#wait(Atomics.load(this.#words, this.#wakes));
      else this.#ring();
    });
  }
}
