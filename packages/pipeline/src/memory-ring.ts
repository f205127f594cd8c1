/**
 * A ring buffer in memory, for engines and simulations that have no kernel's: it takes and loses the same records, and its
 * reader keeps the same promises.
 */
import { ArgumentError, type MapSpec, type RecordListener, type RingReader } from '@tailrace/bpf';

/** BPF_RINGBUF_HDR_SZ. */
const HEADER_BYTES = 8;

/** One ring. */
export class MemoryRing {
  readonly #name: string;
  readonly #bytes: number;
  readonly #records: Uint8Array[] = [];
  #used = 0;
  #reader: MemoryReader | undefined;

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
    this.#reader?.wake();
    return true;
  }

  /** As `EngineInstance.openRing`. */
  open(onReadable: () => void): RingReader {
    if (this.#reader?.closed === false) throw new ArgumentError(`ring buffer ${this.#name} has a reader, expected none`);
    this.#reader = new MemoryReader(this.#name, this, onReadable);
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

class MemoryReader implements RingReader {
  readonly #name: string;
  readonly #ring: MemoryRing;
  readonly #onReadable: () => void;
  #armed = false;
  #call: NodeJS.Immediate | undefined;
  #reading = false;
  closed = false;

  constructor(name: string, ring: MemoryRing, onReadable: () => void) {
    this.#name = name;
    this.#ring = ring;
    this.#onReadable = onReadable;
  }

  get pending(): number {
    this.#checkOpen();
    return this.#ring.used;
  }

  read(limit: number, onRecord: RecordListener): number {
    this.#checkOpen();
    if (this.#reading) throw new ArgumentError(`ring buffer ${this.#name} is read by its own listener`);
    this.#reading = true;
    try {
      let count = 0;
      while (count < limit && !this.closed) {
        const record = this.#ring.take();
        if (record === undefined) break;
        count += 1;
        onRecord(new DataView(record.buffer), 0, record.length);
      }
      return count;
    } finally {
      this.#reading = false;
    }
  }

  arm(): void {
    this.#checkOpen();
    this.#armed = true;
    if (this.#ring.used > 0) this.wake();
  }

  disarm(): void {
    this.#armed = false;
    clearImmediate(this.#call);
    this.#call = undefined;
  }

  close(): void {
    this.disarm();
    this.closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** There is a record: tells whoever waits for one. */
  wake(): void {
    if (!this.#armed || this.#call) return;
    this.#call = setImmediate(() => {
      this.#call = undefined;
      this.#armed = false;
      this.#onReadable();
    });
  }

  #checkOpen(): void {
    if (this.closed) throw new ArgumentError(`the reader of ring buffer ${this.#name} is closed`);
  }
}
