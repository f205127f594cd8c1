/**
 * The rules of reading rings, for every engine and kind: one reader, one call of the listener a record, places freed as the
 * reading goes, one call of `onReadable` for each time that it was asked for. Where records lie, and how news of them comes, is
 * the engine's.
 */
import { ArgumentError } from './errors.ts';
import type { RecordListener, RingReader } from './ring.ts';

/** Where records lie. */
export interface RecordCursor {
  /** Bytes between what was read and what programs took. */
  readonly pending: number;
  /** See `RingReader.lost`. */
  readonly lost: bigint;
  /**
   * Goes past the next record, then hands it over; false where none is written yet. The listener may close the reader:
   * nothing is touched after it.
   */
  next(onRecord: RecordListener): boolean;
  /** Lets programs have the places of what was gone past. */
  release(): void;
}

/** How news of records comes. */
export interface RecordAlarm {
  /** Calls `ring` once there are bytes to be read, at once where there are some. Once is enough. */
  start(ring: () => void): void;
  /** Takes that back. */
  stop(): void;
}

/** What a reader is made of. */
export interface RecordReaderParts {
  /** What messages call it, e.g. `ring buffer seen`. */
  readonly about: string;
  readonly cursor: RecordCursor;
  readonly alarm: RecordAlarm;
  readonly onReadable: () => void;
  /** What goes with it. */
  readonly resources: Disposable;
}

/** Records between two times that programs are told how far we are, so that a long read frees places as it goes. */
const RELEASE_EVERY = 64;

/** A reader over whatever an engine has. */
export class RecordReader implements RingReader {
  readonly #parts: RecordReaderParts;
  #reading = false;
  #closed = false;
  #armed = false;
  #call: NodeJS.Immediate | undefined;
  /** Once it is closed. */
  #lost = 0n;

  constructor(parts: RecordReaderParts) {
    this.#parts = parts;
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#closed;
  }

  get pending(): number {
    this.#checkOpen();
    return this.#parts.cursor.pending;
  }

  get lost(): bigint {
    return this.#closed ? this.#lost : this.#parts.cursor.lost;
  }

  read(limit: number, onRecord: RecordListener): number {
    this.#checkOpen();
    const { about, cursor } = this.#parts;
    if (this.#reading) throw new ArgumentError(`${about} is read by its own listener`);
    this.#reading = true;
    let count = 0;
    try {
      while (count < limit && cursor.next(onRecord)) {
        count += 1;
        if (this.#closed) break;
        if (count % RELEASE_EVERY === 0) cursor.release();
      }
    } finally {
      this.#reading = false;
      if (!this.#closed) cursor.release();
    }
    return count;
  }

  arm(): void {
    this.#checkOpen();
    if (this.#armed) return;
    this.#armed = true;
    this.#parts.alarm.start(() => this.#ring());
  }

  disarm(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#parts.alarm.stop();
    clearImmediate(this.#call);
    this.#call = undefined;
  }

  close(): void {
    if (this.#closed) return;
    this.disarm();
    this.#parts.cursor.release();
    this.#lost = this.#parts.cursor.lost;
    this.#closed = true;
    this.#parts.resources[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** News may come from outside of the event loop's care: promises and errors need a turn of the loop's own. */
  #ring(): void {
    if (!this.#armed) return;
    this.#call ??= setImmediate(() => {
      this.disarm();
      this.#parts.onReadable();
    });
  }

  #checkOpen(): void {
    if (this.#closed) throw new ArgumentError(`the reader of ${this.#parts.about} is closed`);
  }
}
