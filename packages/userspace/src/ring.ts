/**
 * Reading a ring buffer of the userspace engine: records lie whole in its memory (see runtime/ring.ts). Positions count bytes
 * for ever; the lower 32 bits are enough to tell them apart.
 */
import { ArgumentError, type RecordListener, type RingReader } from '@tailrace/bpf';
import type { UserspaceMap } from './map.ts';
import type { EngineMemory } from './memory.ts';

const DISCARD = 1 << 30;
const LENGTH = DISCARD - 1;
const HEADER_BYTES = 8;
const HALF = 1n << 32n;
/** Records between two times that programs are told how far we are, so that a long read frees places as it goes. */
const RELEASE_EVERY = 64;
/** The longest that a timer waits, ms: it is there to keep the process alive. */
const FOR_EVER = 0x7fff_ffff;

/** Reads one ring buffer. Made by `UserspaceInstance.openRing`. */
export class UserspaceRing implements RingReader {
  readonly #about: string;
  readonly #map: UserspaceMap;
  readonly #onReadable: () => void;
  /** Over all of memory as it is now: the ring stays where it is when the memory grows. */
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #longs: BigUint64Array<SharedArrayBuffer>;
  readonly #view: DataView<SharedArrayBuffer>;
  /** Indexes of words. */
  readonly #produced: number;
  readonly #consumed: number;
  readonly #flag: number;
  readonly #wakes: number;
  readonly #start: number;
  readonly #mask: number;
  /** Lower halves, signed: where we are, and where programs know us. */
  #position: number;
  #released: number;
  #reading = false;
  #closed = false;
  #armed = false;
  /** A promise is under way that is settled when the number of wakes changes. */
  #waits = false;
  #call: NodeJS.Immediate | undefined;
  #alive: NodeJS.Timeout | undefined;

  constructor(memory: EngineMemory, map: UserspaceMap, onReadable: () => void) {
    const { runtime } = memory;
    const { buffer } = memory.memory;
    this.#about = `ring buffer ${map.spec.name}`;
    map.hold();
    this.#map = map;
    this.#onReadable = onReadable;
    this.#words = new Int32Array(buffer);
    this.#longs = new BigUint64Array(buffer);
    this.#view = new DataView(buffer);
    this.#produced = runtime.ring_producer(map.address) >>> 2;
    this.#consumed = runtime.ring_consumer(map.address) >>> 2;
    this.#flag = runtime.ring_armed(map.address) >>> 2;
    this.#wakes = runtime.ring_wake(map.address) >>> 2;
    this.#start = runtime.ring_data(map.address) >>> 0;
    this.#mask = map.spec.maxEntries - 1;
    this.#position = Atomics.load(this.#words, this.#consumed);
    this.#released = this.#position;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get pending(): number {
    this.#checkOpen();
    return (Atomics.load(this.#words, this.#produced) - this.#position) >>> 0;
  }

  read(limit: number, onRecord: RecordListener): number {
    this.#checkOpen();
    if (this.#reading) throw new ArgumentError(`${this.#about} is read by its own listener`);
    this.#reading = true;
    let count = 0;
    try {
      const end = Atomics.load(this.#words, this.#produced);
      while (count < limit && this.#position !== end) {
        const at = this.#start + (this.#position & this.#mask);
        const header = Atomics.load(this.#words, at >>> 2);
        if (header < 0) break;
        const length = header & LENGTH;
        this.#position = (this.#position + ((HEADER_BYTES + length + 7) & ~7)) | 0;
        if ((header & DISCARD) !== 0) continue;
        count += 1;
        onRecord(this.#view, at + HEADER_BYTES, length);
        if (this.#closed) break;
        if (count % RELEASE_EVERY === 0) this.#release();
      }
    } finally {
      this.#reading = false;
      if (!this.#closed) this.#release();
    }
    return count;
  }

  arm(): void {
    this.#checkOpen();
    if (this.#armed) return;
    this.#armed = true;
    this.#alive = setInterval(() => undefined, FOR_EVER);
    const seen = Atomics.load(this.#words, this.#wakes);
    Atomics.store(this.#words, this.#flag, 1);
    if (this.pending > 0) this.#wake();
    else if (!this.#waits) this.#wait(seen);
  }

  disarm(): void {
    if (!this.#armed) return;
    this.#armed = false;
    Atomics.store(this.#words, this.#flag, 0);
    clearInterval(this.#alive);
    clearImmediate(this.#call);
    this.#call = undefined;
  }

  /** For the engine, once programs ran on this thread: calls the reader where one of them woke it. */
  notify(): void {
    if (this.#armed && Atomics.load(this.#words, this.#flag) === 0) this.#wake();
  }

  close(): void {
    if (this.#closed) return;
    this.disarm();
    this.#release();
    this.#closed = true;
    if (this.#waits) Atomics.notify(this.#words, this.#wakes);
    this.#map.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Until the number of wakes is no longer the one that was seen. */
  #wait(seen: number): void {
    const { async: isAsync, value } = Atomics.waitAsync(this.#words, this.#wakes, seen);
    if (!isAsync) return this.#wake();
    this.#waits = true;
    void value.then(() => {
      this.#waits = false;
      if (!this.#armed || this.#call !== undefined) return;
      // Disarmed and armed again since: the wake was for the time before.
      if (Atomics.load(this.#words, this.#flag) === 1 && this.pending === 0) this.#wait(Atomics.load(this.#words, this.#wakes));
      else this.#wake();
    });
  }

  #wake(): void {
    this.#call ??= setImmediate(() => {
      this.#call = undefined;
      this.disarm();
      this.#onReadable();
    });
  }

  /** Lets programs have the places of what was read. The store comes after all loads of them. */
  #release(): void {
    const [from, to] = [this.#released >>> 0, this.#position >>> 0];
    const whole = this.#consumed >>> 1;
    if (to < from) Atomics.store(this.#longs, whole, ((Atomics.load(this.#longs, whole) >> 32n) + 1n) * HALF + BigInt(to));
    else if (to > from) Atomics.store(this.#words, this.#consumed, this.#position);
    this.#released = this.#position;
  }

  #checkOpen(): void {
    if (this.#closed) throw new ArgumentError(`the reader of ${this.#about} is closed`);
  }
}
