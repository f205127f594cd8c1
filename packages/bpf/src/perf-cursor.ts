/**
 * Records of perf event arrays as the kernel lays them out (include/uapi/linux/perf_event.h at v6.18), and every engine after it:
 * a ring for each CPU, and records that go on at its start where they reach its end.
 *
 *     record: [ type: u32 | misc: u16 | size: u16 | PERF_SAMPLE_RAW: length: u32, bytes, up to the next 8 ]
 *
 * A ring is read as far as programs had come when its turn began; then the next one has its turn.
 *
 * The kernel takes records of more than 65,535 bytes, of which the size has the lower 16 bits only: it reserves as many, and writes
 * over what follows. What does not make sense is passed over, and counted as lost.
 */
import { ArgumentError } from './errors.ts';
import type { RecordCursor } from './record-reader.ts';
import type { RecordListener } from './ring.ts';
import { RingPosition } from './ring-position.ts';

/** PERF_RECORD_SAMPLE. Others, such as PERF_RECORD_LOST, are passed over. */
const SAMPLE = 9;
const HEADER_BYTES = 8;

/** Bytes of each CPU's ring unless said otherwise. */
export const DEFAULT_PERF_BYTES = 65_536;

/** Most bytes of a ring, so that JavaScript's buffers hold it and 32 bits tell its positions apart. */
const MAX_BYTES = 2 ** 30;

/** Bytes that a ring has where so many are asked for: the next power of two of whole pages. Throws ArgumentError for what no ring has. */
export function perfRingBytes(wanted: number, page: number): number {
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > MAX_BYTES)
    throw new ArgumentError(`a perf event array with ${wanted} bytes for each CPU, expected 1 to ${MAX_BYTES}`);
  let bytes = page;
  while (bytes < wanted) bytes *= 2;
  return bytes;
}

/** Where one CPU's ring is: offsets in a buffer. */
export interface PerfPlaces {
  readonly buffer: ArrayBufferLike;
  /** How far programs have come, u64. */
  readonly head: number;
  /** How far we have read, u64. */
  readonly tail: number;
  readonly data: number;
  /** Bytes of the data, a power of two. */
  readonly bytes: number;
}

/** Goes over the records of all CPUs. */
export class PerfCursor implements RecordCursor {
  readonly #rings: readonly PerfRing[];
  readonly #lost: () => bigint;
  /** The ring whose turn it is. */
  #turn = 0;

  /** `lost`: how many records found no place. */
  constructor(rings: readonly PerfPlaces[], lost: () => bigint) {
    this.#rings = rings.map((places) => new PerfRing(places));
    this.#lost = lost;
  }

  get pending(): number {
    return this.#rings.reduce((sum, ring) => sum + ring.pending, 0);
  }

  get lost(): bigint {
    return this.#rings.reduce((sum, { torn }) => sum + torn, this.#lost());
  }

  next(onRecord: RecordListener): boolean {
    const rings = this.#rings;
    for (let tried = 0; tried <= rings.length; tried++) {
      if (rings[this.#turn]?.next(onRecord)) return true;
      this.#turn = (this.#turn + 1) % rings.length;
      rings[this.#turn]?.look();
    }
    return false;
  }

  release(): void {
    for (const ring of this.#rings) ring.release();
  }
}

class PerfRing {
  readonly #position: RingPosition;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #head: number;
  readonly #start: number;
  readonly #size: number;
  /** How far programs had come when they were last looked at. */
  #end: number;
  /** Records that made no sense. */
  torn = 0n;
  /** For records that reach over the end. */
  #whole = new Uint8Array(0);

  constructor({ buffer, head, tail, data, bytes }: PerfPlaces) {
    this.#position = new RingPosition(buffer, tail);
    this.#words = new Int32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
    this.#head = head / 4;
    this.#start = data;
    this.#size = bytes;
    this.#end = this.#position.at;
  }

  get pending(): number {
    return (Atomics.load(this.#words, this.#head) - this.#position.at) >>> 0;
  }

  /** Records from here to where programs are now may be read. */
  look(): void {
    this.#end = Atomics.load(this.#words, this.#head);
  }

  next(onRecord: RecordListener): boolean {
    const position = this.#position;
    const mask = this.#size - 1;
    while (position.at !== this.#end) {
      const at = position.at & mask;
      const type = this.#view.getUint32(this.#start + at, true);
      const size = this.#view.getUint16(this.#start + at + 6, true);
      const left = (this.#end - position.at) >>> 0;
      if (size < HEADER_BYTES || size % 8 !== 0 || size > left) {
        this.torn += 1n;
        position.advance(left);
        return false;
      }
      position.advance(size);
      if (type !== SAMPLE) continue;
      const length = this.#view.getUint32(this.#start + ((at + HEADER_BYTES) & mask), true);
      if (HEADER_BYTES + 4 + length > size) {
        this.torn += 1n;
        continue;
      }
      const from = (at + HEADER_BYTES + 4) & mask;
      if (from + length <= this.#size) onRecord(this.#view, this.#start + from, length);
      else onRecord(this.#joined(from, length), 0, length);
      return true;
    }
    return false;
  }

  release(): void {
    this.#position.release();
  }

  #joined(from: number, length: number): DataView {
    if (this.#whole.length < length) this.#whole = new Uint8Array(length);
    const first = this.#size - from;
    this.#whole.set(this.#bytes.subarray(this.#start + from, this.#start + this.#size));
    this.#whole.set(this.#bytes.subarray(this.#start, this.#start + length - first), first);
    return new DataView(this.#whole.buffer);
  }
}
