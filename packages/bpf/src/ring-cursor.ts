/**
 * Records of ring buffers as the kernel lays them out (kernel/bpf/ringbuf.c at v6.18), and every engine after it: the data lie
 * twice in a row, or may reach over their end, so that a record never breaks off.
 *
 *     record: [ length: u32, busy and discard as its top bits | page offset: u32 | bytes, rounded up to 8 ]
 */
import type { RecordCursor } from './record-reader.ts';
import type { RecordListener } from './ring.ts';
import { RingPosition } from './ring-position.ts';

/** BPF_RINGBUF_DISCARD_BIT; BPF_RINGBUF_BUSY_BIT is the sign. */
const DISCARD = 1 << 30;
const LENGTH = DISCARD - 1;
/** BPF_RINGBUF_HDR_SZ. */
const HEADER_BYTES = 8;

/** A place in shared memory: bytes from the buffer's start. */
interface Place {
  readonly buffer: ArrayBufferLike;
  readonly offset: number;
}

/** Where the parts of a ring buffer are. */
export interface RingPlaces {
  /** How far we have read, u64. */
  readonly consumed: Place;
  /** How far programs have come, u64. */
  readonly produced: Place;
  /** The data. */
  readonly data: Place;
  /** A power of two. */
  readonly bytes: number;
}

/** Goes over the records of one ring buffer. */
export class RingCursor implements RecordCursor {
  /** Programs are told by `bpf_ringbuf_output` and `bpf_ringbuf_reserve`, and nobody else is. */
  readonly lost = 0n;
  readonly #position: RingPosition;
  readonly #produced: Int32Array;
  readonly #producedIndex: number;
  readonly #headers: Int32Array;
  readonly #view: DataView;
  readonly #start: number;
  readonly #mask: number;
  /** How far programs had come when it was last looked at. */
  #end: number;

  constructor({ consumed, produced, data, bytes }: RingPlaces) {
    this.#position = new RingPosition(consumed.buffer, consumed.offset);
    this.#produced = new Int32Array(produced.buffer);
    this.#producedIndex = produced.offset / 4;
    this.#headers = new Int32Array(data.buffer);
    this.#view = new DataView(data.buffer);
    this.#start = data.offset;
    this.#mask = bytes - 1;
    this.#end = this.#position.at;
  }

  get pending(): number {
    return (Atomics.load(this.#produced, this.#producedIndex) - this.#position.at) >>> 0;
  }

  next(onRecord: RecordListener): boolean {
    const position = this.#position;
    for (;;) {
      if (position.at === this.#end) {
        this.#end = Atomics.load(this.#produced, this.#producedIndex);
        if (position.at === this.#end) return false;
      }
      const at = this.#start + (position.at & this.#mask);
      const header = Atomics.load(this.#headers, at >>> 2);
      if (header < 0) return false;
      const length = header & LENGTH;
      position.advance((HEADER_BYTES + length + 7) & ~7);
      if ((header & DISCARD) !== 0) continue;
      onRecord(this.#view, at + HEADER_BYTES, length);
      return true;
    }
  }

  release(): void {
    this.#position.release();
  }
}
