/**
 * Reading a ring buffer: what programs put into it, in the order in which they took their places there. A perf event array is
 * read the same way, but that only the records of one CPU are in order.
 */

/**
 * A record of a ring: `length` bytes from `offset` on. The bytes are good during the call only. Records of perf event arrays are
 * rounded up: `length` is 4 more than a multiple of 8, and what was written ends in the last 8 bytes of it.
 */
export type RecordListener = (view: DataView, offset: number, length: number) => void;

/**
 * The one reader of a ring buffer. What it has not read when it is closed is there for the next one; of perf event arrays it is
 * gone.
 */
export interface RingReader extends Disposable {
  /**
   * Hands over at most `limit` records and frees their places; records that programs threw away are passed over. Returns
   * how many it handed over: fewer than `limit` where the next one is not written yet, or where the listener closed the
   * reader. An error of the listener goes on to the caller, and its record is read. Throws ArgumentError once closed, and
   * where a listener reads.
   */
  read(limit: number, onRecord: RecordListener): number;
  /** Bytes between what was read and what programs took, with headers and what they are still writing. */
  readonly pending: number;
  /**
   * Records that found no place since the reader was opened, as far as the engine can tell it: of ring buffers it is only
   * programs that are told, and this is 0. It stays once the reader is closed.
   */
  readonly lost: bigint;
  /**
   * Asks for one call of `onReadable`, once there are bytes to be read; never from within this call. The process stays
   * alive for it.
   */
  arm(): void;
  /** Takes that back: `onReadable` is not called until it is asked for again. */
  disarm(): void;
  /** Frees what the reader holds, also from within a listener. Idempotent. */
  close(): void;
}
