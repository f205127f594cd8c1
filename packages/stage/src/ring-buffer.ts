/**
 * Ring buffers: how programs tell the control plane things, one record after the other. All CPUs write into one ring, and
 * records come out in the order in which programs took their places.
 */
import { ArgumentError, isRingSize } from '@tailrace/bpf';
import type { Observable, ObservableInput } from 'rxjs';
import { declareMap, type MapDecl, type MapOptions } from './map-decl.ts';
import type { Schema } from './schema.ts';

/** What programs do with ring buffers. */
export interface RingProgram<T> {
  /** Writes a record. False where the ring is full: the record is lost then, and nothing else counts it. */
  output(value: T): boolean;
}

/**
 * What the control plane does with ring buffers. Reading begins with the first subscriber and ends with the last; what
 * programs write in between waits in the ring. `events$` is shared; `consume` and iterators want the ring for themselves,
 * and fail with ArgumentError where somebody reads it. All end when the pipeline stops.
 */
export interface RingBufferHandle<T> {
  /**
   * Every record as it comes. Nothing holds it back: what takes long in a subscriber holds up all of them, and the event
   * loop. What is in the ring when the pipeline stops still comes.
   */
  readonly events$: Observable<T>;
  /**
   * One record at a time: the next is read once what `project` gave has completed, and what that emits comes out. Where it
   * is slower than the programs, the ring fills and they lose records. Ends at once when the pipeline stops.
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: a project without a result is one that is done
  consume<R>(project: (event: T) => ObservableInput<R> | void): Observable<R>;
  /** One record at a time, as `consume`: the next is read when it is asked for. Reading begins with the first `next()`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<T, undefined, undefined>;
  /** Records that were read since the pipeline runs. */
  readonly received: bigint;
  /** Bytes that wait in the ring, with a header of 8 bytes for each record. Throws ArgumentError once the pipeline has stopped. */
  readonly pending: number;
}

/** A ring buffer. */
export interface RingBuffer<T> extends MapDecl<RingProgram<T>, RingBufferHandle<T>> {
  readonly type: 'ringBuffer';
}

/** Options of ring buffers. */
export interface RingBufferOptions<T> extends Omit<MapOptions, 'maxEntries'> {
  readonly value: Schema<T>;
  /** Size of the ring, a power of two from 4,096 on. A record takes its value's bytes and 8, rounded up to 8. */
  readonly bytes: number;
}

/** Bytes of a record beside its value: BPF_RINGBUF_HDR_SZ. */
const HEADER_BYTES = 8;

/** Declares a ring buffer. Throws ArgumentError for a size that no ring has, and for values that it cannot hold. */
export function ringBuffer<T>(options: RingBufferOptions<T>): RingBuffer<T> {
  const { name, value, bytes, global } = options;
  if (!isRingSize(bytes) || bytes > MAX_BYTES)
    throw new ArgumentError(`ringBuffer '${name}': bytes is ${bytes}, expected a power of two from 4096 to ${MAX_BYTES}`);
  const declared: RingBuffer<T> = declareMap(
    'ringBuffer',
    { name, maxEntries: bytes, ...(global === undefined ? {} : { global }) },
    { value },
  );
  // The kernel never fills a ring to its last place (kernel/bpf/ringbuf.c, __bpf_ringbuf_reserve).
  const most = bytes - 2 * HEADER_BYTES;
  if (value.layout.size > most)
    throw new ArgumentError(`ringBuffer '${name}': the value takes ${value.layout.size} bytes, expected at most ${most}`, {
      hint: 'give the ring more bytes',
    });
  return declared;
}

/** Everything is mapped twice, and JavaScript's buffers end somewhere. */
const MAX_BYTES = 2 ** 30;
