/**
 * A ring buffer in memory, for engines and simulations that have no kernel's: it takes and loses the same records, and its
 * reader keeps the same promises.
 */
import { ArgumentError, type MapSpec, type RecordAlarm, type RecordCursor, type RecordListener, RecordReader } from '@tailrace/bpf';

/** BPF_RINGBUF_HDR_SZ. */
const HEADER_BYTES = 8;

/** One ring. */
export class MemoryRing {
  readonly #name: string;
  readonly #bytes: number;
  readonly #records: Uint8Array[] = [];
  #used = 0;
  readonly #alarm = new MemoryAlarm(this);
  #reader: RecordReader | undefined;

  /** Takes the spec of a `ringBuffer` map. */
  constructor({ name, maxEntries }: Pick<MapSpec, 'name' | 'maxEntries'>) {
    this.#name = name;
    this.#bytes = maxEntries;
  }

  /** Bytes that are taken, with headers. */
  get used(): number {
    return this.#used;
  }

  /** Writes a record, a copy of these bytes. False where it finds no place. */
  output(record: Uint8Array): boolean {
    const place = placeOf(record);
    if (this.#used + place >= this.#bytes) return false;
    this.#used += place;
    this.#records.push(record.slice());
    this.#alarm.notify();
    return true;
  }

  /** As `EngineInstance.openRing`. */
  open(onReadable: () => void): RecordReader {
    const about = `ring buffer ${this.#name}`;
    if (this.#reader?.closed === false) throw new ArgumentError(`${about} has a reader, expected none`);
    const resources = new DisposableStack();
    this.#reader = new RecordReader({ about, cursor: new MemoryCursor(this), alarm: this.#alarm, onReadable, resources });
    return this.#reader;
  }

  /** Takes the oldest record out. */
  take(): Uint8Array | undefined {
    const record = this.#records.shift();
    if (record) this.#used -= placeOf(record);
    return record;
  }
}

function placeOf({ length }: Uint8Array): number {
  return Math.ceil((HEADER_BYTES + length) / 8) * 8;
}

/** Reads the queue that a ring is here. */
class MemoryCursor implements RecordCursor {
  readonly lost = 0n;
  readonly #ring: MemoryRing;

  constructor(ring: MemoryRing) {
    this.#ring = ring;
  }

  get pending(): number {
    return this.#ring.used;
  }

  next(onRecord: RecordListener): boolean {
    const record = this.#ring.take();
    if (record === undefined) return false;
    onRecord(new DataView(record.buffer), 0, record.length);
    return true;
  }

  /** Places are free as soon as a record is taken. */
  release(): void {}
}

/** Rings at once where there is a record, and when one comes. */
class MemoryAlarm implements RecordAlarm {
  readonly #ring: MemoryRing;
  #wake: (() => void) | undefined;

  constructor(ring: MemoryRing) {
    this.#ring = ring;
  }

  start(wake: () => void): void {
    this.#wake = wake;
    if (this.#ring.used > 0) wake();
  }

  stop(): void {
    this.#wake = undefined;
  }

  notify(): void {
    this.#wake?.();
  }
}
