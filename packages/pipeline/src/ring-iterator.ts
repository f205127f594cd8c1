/** Records of a ring one at a time, as an async iterator: the next one is read when it is asked for. */
import { type BeginReading, type RecordSource, SLICE } from './ring-source.ts';

type Result = IteratorResult<unknown, undefined>;

interface Asked {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

const DONE: Result = { value: undefined, done: true };

/** Reading begins with the first `next` and ends with `return`, which loops call where they are left. */
export class RingIterator implements AsyncIterableIterator<unknown, undefined, undefined> {
  readonly #begin: BeginReading;
  readonly #asked: Asked[] = [];
  #source: RecordSource | undefined;
  #ended = false;
  /** Records since the event loop had its turn. */
  #taken = 0;

  constructor(begin: BeginReading) {
    this.#begin = begin;
  }

  next(): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject });
      if (this.#asked.length === 1) this.#serve();
    });
  }

  async return(): Promise<Result> {
    this.#end();
    return DONE;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
  }

  #serve(): void {
    try {
      if (!this.#ended) this.#source ??= this.#open();
      const source = this.#source;
      if (this.#ended || source === undefined) return this.#end();
      while (this.#asked.length > 0) {
        const next = this.#taken < SLICE ? source.next() : undefined;
        if (next === undefined) return source.arm();
        this.#taken += 1;
        this.#asked.shift()?.resolve({ value: next.value, done: false });
      }
    } catch (error) {
      this.#asked.shift()?.reject(error);
      this.#end();
    }
  }

  #open(): RecordSource | undefined {
    const onReadable = (): void => {
      this.#taken = 0;
      this.#serve();
    };
    return this.#begin(onReadable, () => this.#end());
  }

  #end(): void {
    this.#ended = true;
    this.#source?.end();
    for (const { resolve } of this.#asked.splice(0)) resolve(DONE);
  }
}
