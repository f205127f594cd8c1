/** What users hold of a canary: both pipelines' counters side by side, and how it ends. */
import { ArgumentError } from '@tailrace/bpf';
import { map, type Observable, type SchedulerLike, Subject, shareReplay, takeUntil, timer } from 'rxjs';
import type { CanaryDescription } from './canary-description.ts';

/** Counters of the present pipeline, `S`, and of the next one, `N`, since the canary runs. */
export interface CanaryStats<S, N> {
  readonly present: S;
  readonly canary: N;
}

/**
 * A canary that runs. Disposing of it rolls it back, unless it was promoted. `R` is what the pipeline is once it was, `S` and `N`
 * are the counters of both.
 */
export interface Canary<R, S, N> extends AsyncDisposable {
  /** Who goes through it, and what they go through. It stays what it was once the canary has ended. */
  describe(): CanaryDescription;
  stats(): CanaryStats<S, N>;
  /** The same, at once and then every interval; shared, ends with the canary. */
  readonly stats$: Observable<CanaryStats<S, N>>;
  /**
   * Leads all packets to the next pipeline; counters of stages of the same name become one. Returns the pipeline under its new
   * types. Throws what the engine throws: packets then go where they went, and it can be asked for again, or rolled back.
   */
  promote(): Promise<R>;
  /** Leads all packets back and closes what was made for the canary. Throws as `promote` does. Idempotent. */
  rollBack(): Promise<void>;
}

/** What a canary is made of. */
export interface CanaryParts<R, S, N> {
  readonly description: CanaryDescription;
  stats(): CanaryStats<S, N>;
  promote(): Promise<R>;
  rollBack(): Promise<void>;
  readonly clock: SchedulerLike;
  readonly statsIntervalMs: number;
}

/** Puts parts together; each way to end it is taken once. */
export class RunningCanary<R, S, N> implements Canary<R, S, N> {
  readonly stats$: Observable<CanaryStats<S, N>>;
  readonly #parts: CanaryParts<R, S, N>;
  readonly #ended = new Subject<void>();
  #end: 'promoted' | 'rolled back' | undefined;

  constructor(parts: CanaryParts<R, S, N>) {
    this.#parts = parts;
    this.stats$ = timer(0, parts.statsIntervalMs, parts.clock).pipe(
      map(() => this.stats()),
      takeUntil(this.#ended),
      shareReplay({ bufferSize: 1, refCount: true }),
    );
  }

  describe(): CanaryDescription {
    return this.#parts.description;
  }

  stats(): CanaryStats<S, N> {
    this.#checkRuns();
    return this.#parts.stats();
  }

  async promote(): Promise<R> {
    this.#checkRuns();
    const running = await this.#parts.promote();
    this.end('promoted');
    return running;
  }

  async rollBack(): Promise<void> {
    if (this.#end === 'rolled back') return;
    this.#checkRuns();
    await this.#parts.rollBack();
    this.end('rolled back');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#end === undefined) await this.rollBack();
  }

  /** Says how it ended. */
  end(how: 'promoted' | 'rolled back'): void {
    this.#end = how;
    this.#ended.next();
    this.#ended.complete();
  }

  #checkRuns(): void {
    if (this.#end !== undefined) throw new ArgumentError(`the canary was ${this.#end}`);
  }
}
